// The parts of a prior's file, read and written. For prior.cpp.
#pragma once

#include <span>

#include "engine/json_fields.h"
#include "engine/policy/prior.h"

namespace expertscope {

// Share of values below `value` in a distribution given by its equally spaced quantiles.
double share_below(std::span<const double> quantiles, double value);

class PriorReader {
 public:
  PriorReader(const nlohmann::json& root, const std::string& origin, int layers, int experts)
      : fields_(root, origin), layers_(layers), experts_(experts) {}
  Prior read();

 private:
  using Table = std::vector<std::vector<double>>;

  void model();
  void tokens();
  void transitions();
  void activations();
  void adapmoe();
  void edgemoe();
  void routing_path();

  std::vector<double> numbers(JsonFields&, const std::string& key, std::size_t count, double min, double max);
  // A list of lists.
  Table table(JsonFields&, const std::string& key, std::size_t rows, std::size_t columns, double max, double min = 0);
  std::vector<std::uint8_t> bytes(JsonFields&, const std::string& key, std::size_t count);
  std::vector<std::uint16_t> words(JsonFields&, const std::string& key, std::size_t count);
  std::vector<float> floats(JsonFields&, const std::string& key, std::size_t count);
  ByteMatrix matrix(JsonFields&, const std::string& key, int rows, int columns);

  JsonFields fields_;
  int layers_, experts_;
  Prior prior_;
};

}  // namespace expertscope

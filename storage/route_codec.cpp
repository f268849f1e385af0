#include "storage/route_codec.h"

#include <bit>
#include <cstring>

namespace expertscope {
namespace {

static_assert(std::endian::native == std::endian::little, "stored numbers are little endian");

template <typename T>
void put(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <typename T>
void get(std::string_view& bytes, T& value) {
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
}

std::size_t encoded_size(const RouteRecord& route) {
  return route.picks * (sizeof(std::uint16_t) + sizeof(float)) + std::size_t{route.gates} * route.gate_entries * 4;
}

}  // namespace

void encode_route(const RouteRecord& route, std::string& bytes) {
  bytes.clear();
  for (std::size_t i = 0; i < route.picks; ++i) put(bytes, route.expert[i]);
  for (std::size_t i = 0; i < route.picks; ++i) put(bytes, route.weight[i]);
  for (std::size_t g = 0; g < route.gates; ++g) {
    for (std::size_t i = 0; i < route.gate_entries; ++i) {
      put(bytes, route.gate[g][i].expert);
      put(bytes, route.gate[g][i].prob_q16);
    }
  }
}

bool decode_route(std::string_view bytes, RouteRecord& route) {
  if (route.picks > route.expert.size() || route.gates > route.gate.size() || route.gate_entries > kGateEntries ||
      bytes.size() != encoded_size(route)) {
    return false;
  }
  for (std::size_t i = 0; i < route.picks; ++i) get(bytes, route.expert[i]);
  for (std::size_t i = 0; i < route.picks; ++i) get(bytes, route.weight[i]);
  for (std::size_t g = 0; g < route.gates; ++g) {
    for (std::size_t i = 0; i < route.gate_entries; ++i) {
      get(bytes, route.gate[g][i].expert);
      get(bytes, route.gate[g][i].prob_q16);
    }
  }
  return true;
}

}  // namespace expertscope

// Reads the header of a GGUF file (versions 2 and 3) that may be hostile. Every length is checked against the bytes
// that are really there before anything is allocated, and the file is read by pread, so that one that shrinks under us
// is an error and not a signal. All functions throw InputError naming the file, the key or tensor, and the byte offset.
// Immutable after construction; read() may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "engine/model/tensor_type.h"

namespace expertscope {

enum class GgufType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
std::string_view name(GgufType);

struct GgufTensor {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape;  // ggml order, fastest dimension first; 1 to 4 entries
  std::int64_t values = 0;
  std::int64_t bytes = 0;
  std::int64_t file_offset = 0;  // from the start of the file
  std::int64_t info_offset = 0;  // where its entry stands in the header, for messages
};

class GgufReader {
 public:
  explicit GgufReader(const std::filesystem::path& path);
  ~GgufReader();
  GgufReader(const GgufReader&) = delete;
  GgufReader& operator=(const GgufReader&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::int64_t file_bytes() const { return file_bytes_; }
  std::int64_t data_bytes() const;  // sum over the tensors
  std::uint32_t version() const { return version_; }

  // Typed access. The optional forms return nothing when the key is absent and throw when it has another type; the
  // others throw in both cases. Integers of any width and sign are accepted where their value fits.
  bool has(std::string_view key) const;
  std::optional<std::int64_t> find_integer(std::string_view key) const;
  std::optional<double> find_number(std::string_view key) const;  // f32 or f64
  std::optional<bool> find_bool(std::string_view key) const;      // any non-zero byte is true
  std::optional<std::string> find_string(std::string_view key) const;
  std::int64_t integer(std::string_view key, std::int64_t min, std::int64_t max) const;
  std::int64_t integer_or(std::string_view key, std::int64_t min, std::int64_t max, std::int64_t absent) const;
  std::string string(std::string_view key) const;
  std::vector<std::int64_t> integers(
      std::string_view key) const;  // an integer array, or one integer as an array of one
  std::vector<std::int32_t> int32_array(std::string_view key) const;
  std::vector<float> float_array(std::string_view key) const;
  std::vector<std::string> string_array(std::string_view key) const;
  std::vector<std::string> keys() const;  // in file order

  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // in file order
  const GgufTensor* find_tensor(std::string_view name) const;

  // Fills `out` from `file_offset`. A file that ends early or cannot be read throws InputError naming `what`.
  void read(std::int64_t file_offset, std::span<std::byte> out, std::string_view what) const;

  // Hexadecimal SHA-256 of the whole file as it is now; throws RunError when the file changed since it was opened.
  std::string sha256() const;

  // For checks made by others on what this reader returned: an InputError that names the file and, when known, where.
  [[noreturn]] void fail_key(std::string_view key, const std::string& problem) const;
  [[noreturn]] void fail_tensor(std::string_view tensor, const std::string& problem) const;
  [[noreturn]] void fail(const std::string& problem) const;

 private:
  class Cursor;
  struct Array {
    GgufType element = GgufType::u8;
    std::int64_t count = 0;
    std::string bytes;                // elements as in the file; for strings their characters
    std::vector<std::uint64_t> ends;  // for strings: where each ends in `bytes`
  };
  // Integers that fit keep their value as int64, larger u64 as themselves.
  using Data = std::variant<std::int64_t, std::uint64_t, double, bool, std::string, Array>;
  struct Value {
    GgufType type = GgufType::u8;
    std::int64_t offset = 0;  // of the entry in the file
    Data data;
  };

  void open();
  void parse();
  void parse_entry(Cursor& cursor);
  Data parse_scalar(Cursor& cursor, GgufType type) const;
  Array parse_array(Cursor& cursor) const;
  void parse_tensor_info(Cursor& cursor, std::vector<std::uint64_t>& offsets);
  void place_tensors(std::int64_t header_end, const std::vector<std::uint64_t>& offsets);
  const Value* find(std::string_view key) const;
  const Value& required(std::string_view key) const;
  const Array& array_of(std::string_view key, GgufType element) const;
  std::int64_t to_integer(std::string_view key, const Value& value) const;
  [[noreturn]] void fail_type(std::string_view key, const Value& value, std::string_view wanted) const;
  [[noreturn]] void fail_at(std::int64_t offset, const std::string& problem) const;

  struct TransparentHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  template <typename T>
  using NameMap = std::unordered_map<std::string, T, TransparentHash, std::equal_to<>>;

  std::filesystem::path path_;
  int fd_ = -1;
  std::int64_t file_bytes_ = 0;
  std::int64_t inode_ = 0, changed_ns_ = 0;  // when opened
  std::uint32_t version_ = 0;
  std::int64_t alignment_ = 32;
  NameMap<Value> values_;
  std::vector<std::string> key_order_;
  std::vector<GgufTensor> tensors_;
  NameMap<std::size_t> tensor_index_;
};

}  // namespace expertscope

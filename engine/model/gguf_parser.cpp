#include "engine/model/gguf_parser.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <span>
#include <unordered_set>

#include "engine/model/text_escape.h"

namespace expertscope {

namespace {

constexpr std::uint64_t kMaxEntries = 65'536;
constexpr std::uint64_t kMaxTensors = 1'000'000;
constexpr std::uint64_t kMaxKeyBytes = 64 * 1024;
constexpr std::uint64_t kMaxStringBytes = 16 * 1024 * 1024;
constexpr std::uint64_t kMaxArrayElements = 16 * 1024 * 1024;
constexpr std::size_t kMaxTensorNameBytes = 63;
constexpr std::uint32_t kMaxDimensions = 4;
constexpr std::int64_t kMaxTensorValues = std::int64_t{1} << 48;
constexpr std::int64_t kMaxAlignment = 1024 * 1024;
// The least that an entry (key length, type, one byte) and a tensor's description (name length, dimensions, one of
// them, type, offset) take.
constexpr std::uint64_t kLeastEntryBytes = 8 + 4 + 1;
constexpr std::uint64_t kLeastTensorInfoBytes = 8 + 4 + 8 + 4 + 8;

// Walks through the header in a window of the file, proving before each step that the bytes are there.
class Cursor {
 public:
  explicit Cursor(const GgufFile& file) : file_(file) {}

  std::int64_t offset() const { return offset_; }
  std::uint64_t remaining() const { return static_cast<std::uint64_t>(file_.bytes() - offset_); }

  // Names what is being read in the message when the file ends.
  void set_context(std::string context) { context_ = std::move(context); }
  const std::string& context() const { return context_; }

  [[noreturn]] void fail(const std::string& problem) const { file_.fail_at(offset_, context_ + ": " + problem); }

  void require(std::uint64_t bytes, std::string_view what) const {
    if (bytes <= remaining()) return;
    fail(std::string(what) + " of " + std::to_string(bytes) + " bytes, but only " + std::to_string(remaining()) +
         " are left in the file; it is cut off or damaged, fetch it again");
  }

  void read(std::span<char> out, std::string_view what) {
    require(out.size(), what);
    while (!out.empty()) {
      if (offset_ < window_start_ || offset_ >= window_start_ + static_cast<std::int64_t>(window_.size())) refill(what);
      const auto from = static_cast<std::size_t>(offset_ - window_start_);
      const std::size_t n = std::min(out.size(), window_.size() - from);
      std::copy_n(window_.begin() + static_cast<std::ptrdiff_t>(from), n, out.begin());
      offset_ += static_cast<std::int64_t>(n);
      out = out.subspan(n);
    }
  }

  template <typename T>
  T number(std::string_view what) {
    T value;
    char bytes[sizeof(T)];
    read(bytes, what);
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }

  std::string string(std::uint64_t cap, std::string_view what) {
    const auto length = number<std::uint64_t>(what);
    if (length > cap)
      fail(std::string(what) + " of " + std::to_string(length) + " bytes; at most " + std::to_string(cap) +
           " are accepted, the file is damaged");
    require(length, what);
    std::string out(static_cast<std::size_t>(length), '\0');
    read(out, what);
    return out;
  }

 private:
  void refill(std::string_view what) {
    constexpr std::int64_t kWindowBytes = 256 * 1024;
    window_start_ = offset_;
    window_.resize(static_cast<std::size_t>(std::min(kWindowBytes, file_.bytes() - offset_)));
    file_.read(window_start_, std::as_writable_bytes(std::span(window_)), what);
  }

  const GgufFile& file_;
  std::int64_t offset_ = 0;
  std::int64_t window_start_ = 0;
  std::vector<char> window_;
  std::string context_ = "header";
};

class Parser {
 public:
  explicit Parser(const GgufFile& file) : file_(file), cursor_(file), header_{0, GgufMetadata(file), {}} {}

  GgufHeader parse();

 private:
  void parse_entry();
  void read_alignment();
  decltype(GgufValue::data) parse_scalar(GgufType type);
  GgufArray parse_array();
  void parse_tensor_info();
  void place_tensors();

  const GgufFile& file_;
  Cursor cursor_;
  GgufHeader header_;
  std::uint64_t entries_ = 0;
  std::int64_t alignment_ = 32;
  std::vector<std::uint64_t> offsets_;  // of the tensors, as the file says
  std::unordered_set<std::string> tensor_names_;
};

GgufHeader Parser::parse() {
  char magic[4];
  cursor_.read(magic, "the magic number");
  if (std::string_view(magic, 4) != "GGUF") {
    file_.fail_at(0, "starts with " + in_quotes(std::string_view(magic, 4)) +
                         " and not with 'GGUF'; this is not a GGUF model file");
  }
  const auto version = header_.version = cursor_.number<std::uint32_t>("the version");
  if ((version & 0xffff) == 0) {
    file_.fail_at(4, "is a big-endian GGUF file; convert it to little-endian");
  }
  if (version < 2 || version > 3) {
    file_.fail_at(4,
                  "has GGUF version " + std::to_string(version) + "; versions 2 and 3 are supported, convert the file");
  }
  const auto tensor_count = cursor_.number<std::uint64_t>("the number of tensors");
  const auto entry_count = cursor_.number<std::uint64_t>("the number of metadata keys");
  if (tensor_count > kMaxTensors || tensor_count > cursor_.remaining() / kLeastTensorInfoBytes) {
    file_.fail_at(8,
                  "claims " + std::to_string(tensor_count) + " tensors, more than fit; the file is cut off or damaged");
  }
  if (entry_count > kMaxEntries || entry_count > cursor_.remaining() / kLeastEntryBytes) {
    file_.fail_at(
        16, "claims " + std::to_string(entry_count) + " metadata keys, more than fit; the file is cut off or damaged");
  }
  for (std::uint64_t i = 0; i < entry_count; ++i) parse_entry();
  read_alignment();
  for (std::uint64_t i = 0; i < tensor_count; ++i) parse_tensor_info();
  place_tensors();
  return std::move(header_);
}

void Parser::read_alignment() {
  constexpr std::string_view kKey = "general.alignment";
  const GgufValue* value = header_.metadata.find(kKey);
  if (!value) return;
  if (value->type != GgufType::u32) header_.metadata.fail_type(kKey, "u32");
  alignment_ = std::get<std::int64_t>(value->data);
  if (alignment_ < 8 || alignment_ > kMaxAlignment || !std::has_single_bit(static_cast<std::uint64_t>(alignment_))) {
    header_.metadata.fail_key(kKey,
                              "is " + std::to_string(alignment_) + "; it must be a power of two from 8 to 1048576");
  }
}

void Parser::parse_entry() {
  cursor_.set_context("metadata key " + std::to_string(entries_++));
  const std::int64_t offset = cursor_.offset();
  const std::string key = cursor_.string(kMaxKeyBytes, "a key");
  if (key.empty() || !is_utf8(key) || has_control_characters(key)) {
    file_.fail_at(offset,
                  "key " + in_quotes(key) + " is empty, not UTF-8, or has control characters; the file is damaged");
  }
  cursor_.set_context("key " + in_quotes(key));
  const auto type = cursor_.number<std::uint32_t>("its type");
  if (type > static_cast<std::uint32_t>(GgufType::f64)) cursor_.fail("has unknown type " + std::to_string(type));
  GgufValue value{static_cast<GgufType>(type), offset, {}};
  if (value.type == GgufType::array)
    value.data = parse_array();
  else
    value.data = parse_scalar(value.type);
  if (!header_.metadata.add(key, std::move(value))) file_.fail_at(offset, "key " + in_quotes(key) + " appears twice");
}

decltype(GgufValue::data) Parser::parse_scalar(GgufType type) {
  constexpr std::string_view kWhat = "its value";
  switch (type) {
    case GgufType::f32:
      return double{cursor_.number<float>(kWhat)};
    case GgufType::f64:
      return cursor_.number<double>(kWhat);
    case GgufType::boolean:
      return cursor_.number<std::uint8_t>(kWhat) != 0;
    case GgufType::string:
      return cursor_.string(kMaxStringBytes, "its text");
    case GgufType::u64: {
      const auto value = cursor_.number<std::uint64_t>(kWhat);
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return value;
      return static_cast<std::int64_t>(value);
    }
    default: {
      char bytes[8];
      cursor_.read(std::span(bytes).first(static_cast<std::size_t>(scalar_bytes(type))), kWhat);
      return integer_from(type, bytes);
    }
  }
}

GgufArray Parser::parse_array() {
  const auto element = cursor_.number<std::uint32_t>("its element type");
  if (element > static_cast<std::uint32_t>(GgufType::f64))
    cursor_.fail("has unknown element type " + std::to_string(element));
  GgufArray array{static_cast<GgufType>(element), 0, {}, {}};
  if (array.element == GgufType::array) cursor_.fail("is an array of arrays, which is not accepted");
  const auto count = cursor_.number<std::uint64_t>("its number of elements");
  if (count > kMaxArrayElements) {
    cursor_.fail("claims " + std::to_string(count) + " elements; at most " + std::to_string(kMaxArrayElements) +
                 " are accepted, the file is damaged");
  }
  array.count = static_cast<std::int64_t>(count);
  const auto least_bytes =
      static_cast<std::uint64_t>(array.element == GgufType::string ? 8 : scalar_bytes(array.element));
  cursor_.require(count * least_bytes, "an array");
  if (array.element != GgufType::string) {
    array.bytes.resize(static_cast<std::size_t>(count * least_bytes));
    cursor_.read(array.bytes, "an array");
    return array;
  }
  array.ends.reserve(static_cast<std::size_t>(count));
  for (std::uint64_t i = 0; i < count; ++i) {
    array.bytes += cursor_.string(kMaxStringBytes, "a string of the array");
    array.ends.push_back(array.bytes.size());
  }
  return array;
}

void Parser::parse_tensor_info() {
  cursor_.set_context("tensor " + std::to_string(header_.tensors.size()));
  GgufTensor tensor;
  tensor.info_offset = cursor_.offset();
  tensor.name = cursor_.string(kMaxKeyBytes, "a tensor name");
  cursor_.set_context("tensor " + in_quotes(tensor.name));
  if (tensor.name.empty() || tensor.name.size() > kMaxTensorNameBytes || !is_utf8(tensor.name) ||
      has_control_characters(tensor.name)) {
    cursor_.fail("its name is empty, longer than 63 bytes, not UTF-8, or has control characters; the file is damaged");
  }
  const auto dimensions = cursor_.number<std::uint32_t>("its number of dimensions");
  if (dimensions < 1 || dimensions > kMaxDimensions) {
    cursor_.fail("has " + std::to_string(dimensions) + " dimensions; 1 to 4 are possible");
  }
  tensor.values = 1;
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    const auto extent = cursor_.number<std::int64_t>("a dimension");
    if (extent < 1 || extent >= kMaxTensorValues || extent > (kMaxTensorValues - 1) / tensor.values) {
      cursor_.fail("dimension " + std::to_string(i) + " is " + std::to_string(extent) +
                   "; dimensions must be at least 1 and their product below 2^48");
    }
    tensor.values *= extent;
    tensor.shape.push_back(extent);
  }
  const auto type_id = cursor_.number<std::uint32_t>("its type");
  const auto type = supported_tensor_type(type_id);
  if (!type) {
    cursor_.fail("has type " + ggml_type_name(type_id) + ", which is not supported; use a file of " +
                 supported_tensor_type_names());
  }
  tensor.type = *type;
  if (tensor.shape[0] % block_values(*type) != 0) {
    cursor_.fail("its rows of " + std::to_string(tensor.shape[0]) + " values are no multiple of the " +
                 std::to_string(block_values(*type)) + " that " + std::string(expertscope::name(*type)) + " needs");
  }
  tensor.bytes = tensor_bytes(*type, tensor.values);
  offsets_.push_back(cursor_.number<std::uint64_t>("its offset"));
  if (!tensor_names_.insert(tensor.name).second) cursor_.fail("appears twice");
  header_.tensors.push_back(std::move(tensor));
}

// ggml writes tensors one after the other, each padded to the alignment; anything else is a damaged or forged file.
void Parser::place_tensors() {
  const auto padded = [this](std::int64_t bytes) { return (bytes + alignment_ - 1) / alignment_ * alignment_; };
  const std::int64_t data_start = padded(cursor_.offset());
  std::int64_t expected = 0;
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) {
    GgufTensor& tensor = header_.tensors[i];
    if (offsets_[i] != static_cast<std::uint64_t>(expected)) {
      file_.fail_at(tensor.info_offset, "tensor " + in_quotes(tensor.name) + ": offset " + std::to_string(offsets_[i]) +
                                            " where the end of the previous tensor asks for " +
                                            std::to_string(expected) +
                                            "; gaps, overlaps and reordering are refused, the file is damaged");
    }
    tensor.file_offset = data_start + expected;
    if (tensor.bytes > file_.bytes() - tensor.file_offset) {
      file_.fail_at(tensor.info_offset, "tensor " + in_quotes(tensor.name) + ": its " + std::to_string(tensor.bytes) +
                                            " bytes at " + std::to_string(tensor.file_offset) +
                                            " go past the end of the file (" + std::to_string(file_.bytes()) +
                                            " bytes); the file is cut off, fetch it again");
    }
    // The sum cannot overflow: every tensor so far lies within the file.
    expected += padded(tensor.bytes);
  }
}

}  // namespace

GgufHeader parse_gguf_header(const GgufFile& file) {
  return Parser(file).parse();
}

}  // namespace expertscope

#include "engine/model/gguf_reader.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/error.h"
#include "engine/model/sha256.h"
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

// Bytes of one value; 0 for strings and arrays, whose size is in the file.
std::int64_t scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
      return 8;
    case GgufType::string:
    case GgufType::array:
      return 0;
  }
  return 0;
}

std::string quote(std::string_view text) {
  constexpr std::size_t kShown = 80;
  return "'" + escaped(text.substr(0, kShown)) + (text.size() > kShown ? "…'" : "'");
}

std::string system_error() {
  return std::strerror(errno);
}

// The value as an integer of any type, from its bytes in an array or an entry.
std::int64_t integer_from(GgufType type, const char* p) {
  const auto as = [p]<typename T>(T value) {
    std::memcpy(&value, p, sizeof value);
    return static_cast<std::int64_t>(value);
  };
  switch (type) {
    case GgufType::u8:
      return as(std::uint8_t{});
    case GgufType::i8:
      return as(std::int8_t{});
    case GgufType::u16:
      return as(std::uint16_t{});
    case GgufType::i16:
      return as(std::int16_t{});
    case GgufType::u32:
      return as(std::uint32_t{});
    case GgufType::i32:
      return as(std::int32_t{});
    default:
      return as(std::int64_t{});
  }
}

bool is_integer(GgufType type) {
  return type != GgufType::f32 && type != GgufType::f64 && type != GgufType::boolean && scalar_bytes(type) > 0;
}

}  // namespace

std::string_view name(GgufType type) {
  constexpr std::string_view kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<std::size_t>(type)];
}

// Walks through the header in a window of the file, proving before each step that the bytes are there.
class GgufReader::Cursor {
 public:
  explicit Cursor(const GgufReader& file) : file_(file) {}

  std::int64_t offset() const { return offset_; }
  std::uint64_t remaining() const { return static_cast<std::uint64_t>(file_.file_bytes_ - offset_); }

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
    window_.resize(static_cast<std::size_t>(std::min(kWindowBytes, file_.file_bytes_ - offset_)));
    file_.read(window_start_, std::as_writable_bytes(std::span(window_)), what);
  }

  const GgufReader& file_;
  std::int64_t offset_ = 0;
  std::int64_t window_start_ = 0;
  std::vector<char> window_;
  std::string context_ = "header";
};

GgufReader::GgufReader(const std::filesystem::path& path) : path_(path) {
  open();
  try {
    parse();
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

GgufReader::~GgufReader() {
  ::close(fd_);
}

void GgufReader::open() {
  // Non-blocking, so that a named pipe is refused below and not waited for.
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) fail("cannot be opened (" + system_error() + "); check the path and its permissions");
  struct stat info {};
  const bool known = ::fstat(fd_, &info) == 0;
  if (!known || !S_ISREG(info.st_mode)) {
    ::close(fd_);
    fail("is not a regular file; give the path of a GGUF model file");
  }
  file_bytes_ = info.st_size;
  inode_ = static_cast<std::int64_t>(info.st_ino);
  changed_ns_ = info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec;
}

void GgufReader::parse() {
  Cursor cursor(*this);
  char magic[4];
  cursor.read(magic, "the magic number");
  if (std::string_view(magic, 4) != "GGUF") {
    fail_at(0,
            "starts with " + quote(std::string_view(magic, 4)) + " and not with 'GGUF'; this is not a GGUF model file");
  }
  version_ = cursor.number<std::uint32_t>("the version");
  if ((version_ & 0xffff) == 0) {
    fail_at(4, "is a big-endian GGUF file; convert it to little-endian");
  }
  if (version_ < 2 || version_ > 3) {
    fail_at(4, "has GGUF version " + std::to_string(version_) + "; versions 2 and 3 are supported, convert the file");
  }
  const auto tensor_count = cursor.number<std::uint64_t>("the number of tensors");
  const auto entry_count = cursor.number<std::uint64_t>("the number of metadata keys");
  if (tensor_count > kMaxTensors || tensor_count > cursor.remaining() / kLeastTensorInfoBytes) {
    fail_at(8, "claims " + std::to_string(tensor_count) + " tensors, more than fit; the file is cut off or damaged");
  }
  if (entry_count > kMaxEntries || entry_count > cursor.remaining() / kLeastEntryBytes) {
    fail_at(16,
            "claims " + std::to_string(entry_count) + " metadata keys, more than fit; the file is cut off or damaged");
  }
  for (std::uint64_t i = 0; i < entry_count; ++i) parse_entry(cursor);
  if (const Value* value = find("general.alignment")) {
    if (value->type != GgufType::u32) fail_type("general.alignment", *value, "u32");
    alignment_ = std::get<std::int64_t>(value->data);
    if (alignment_ < 8 || alignment_ > kMaxAlignment || !std::has_single_bit(static_cast<std::uint64_t>(alignment_))) {
      fail_key("general.alignment",
               "is " + std::to_string(alignment_) + "; it must be a power of two from 8 to 1048576");
    }
  }
  if (has("split.count") && integer("split.count", 0, 65535) > 1) {
    fail_key("split.count",
             "says that the model is split over several files, which is not supported; "
             "merge them into one file first (llama-gguf-split --merge)");
  }
  std::vector<std::uint64_t> offsets;
  for (std::uint64_t i = 0; i < tensor_count; ++i) parse_tensor_info(cursor, offsets);
  place_tensors(cursor.offset(), offsets);
}

void GgufReader::parse_entry(Cursor& cursor) {
  cursor.set_context("metadata key " + std::to_string(key_order_.size()));
  const std::int64_t offset = cursor.offset();
  std::string key = cursor.string(kMaxKeyBytes, "a key");
  if (key.empty() || !is_utf8(key) || has_control_characters(key)) {
    fail_at(offset, "key " + quote(key) + " is empty, not UTF-8, or has control characters; the file is damaged");
  }
  cursor.set_context("key " + quote(key));
  const auto type = cursor.number<std::uint32_t>("its type");
  if (type > static_cast<std::uint32_t>(GgufType::f64)) cursor.fail("has unknown type " + std::to_string(type));
  Value value{static_cast<GgufType>(type), offset, {}};
  if (value.type == GgufType::array)
    value.data = parse_array(cursor);
  else
    value.data = parse_scalar(cursor, value.type);
  if (!values_.emplace(key, std::move(value)).second) fail_at(offset, "key " + quote(key) + " appears twice");
  key_order_.push_back(std::move(key));
}

GgufReader::Data GgufReader::parse_scalar(Cursor& cursor, GgufType type) const {
  constexpr std::string_view kWhat = "its value";
  switch (type) {
    case GgufType::f32:
      return double{cursor.number<float>(kWhat)};
    case GgufType::f64:
      return cursor.number<double>(kWhat);
    case GgufType::boolean:
      return cursor.number<std::uint8_t>(kWhat) != 0;
    case GgufType::string:
      return cursor.string(kMaxStringBytes, "its text");
    case GgufType::u64: {
      const auto value = cursor.number<std::uint64_t>(kWhat);
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return value;
      return static_cast<std::int64_t>(value);
    }
    default: {
      char bytes[8];
      cursor.read(std::span(bytes).first(static_cast<std::size_t>(scalar_bytes(type))), kWhat);
      return integer_from(type, bytes);
    }
  }
}

GgufReader::Array GgufReader::parse_array(Cursor& cursor) const {
  const auto element = cursor.number<std::uint32_t>("its element type");
  if (element > static_cast<std::uint32_t>(GgufType::f64))
    cursor.fail("has unknown element type " + std::to_string(element));
  Array array{static_cast<GgufType>(element), 0, {}, {}};
  if (array.element == GgufType::array) cursor.fail("is an array of arrays, which is not accepted");
  const auto count = cursor.number<std::uint64_t>("its number of elements");
  if (count > kMaxArrayElements) {
    cursor.fail("claims " + std::to_string(count) + " elements; at most " + std::to_string(kMaxArrayElements) +
                " are accepted, the file is damaged");
  }
  array.count = static_cast<std::int64_t>(count);
  const auto least_bytes =
      static_cast<std::uint64_t>(array.element == GgufType::string ? 8 : scalar_bytes(array.element));
  cursor.require(count * least_bytes, "an array");
  if (array.element != GgufType::string) {
    array.bytes.resize(static_cast<std::size_t>(count * least_bytes));
    cursor.read(array.bytes, "an array");
    return array;
  }
  array.ends.reserve(static_cast<std::size_t>(count));
  for (std::uint64_t i = 0; i < count; ++i) {
    array.bytes += cursor.string(kMaxStringBytes, "a string of the array");
    array.ends.push_back(array.bytes.size());
  }
  return array;
}

void GgufReader::parse_tensor_info(Cursor& cursor, std::vector<std::uint64_t>& offsets) {
  cursor.set_context("tensor " + std::to_string(tensors_.size()));
  GgufTensor tensor;
  tensor.info_offset = cursor.offset();
  tensor.name = cursor.string(kMaxKeyBytes, "a tensor name");
  cursor.set_context("tensor " + quote(tensor.name));
  if (tensor.name.empty() || tensor.name.size() > kMaxTensorNameBytes || !is_utf8(tensor.name) ||
      has_control_characters(tensor.name)) {
    cursor.fail("its name is empty, longer than 63 bytes, not UTF-8, or has control characters; the file is damaged");
  }
  const auto dimensions = cursor.number<std::uint32_t>("its number of dimensions");
  if (dimensions < 1 || dimensions > kMaxDimensions) {
    cursor.fail("has " + std::to_string(dimensions) + " dimensions; 1 to 4 are possible");
  }
  tensor.values = 1;
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    const auto extent = cursor.number<std::int64_t>("a dimension");
    if (extent < 1 || extent >= kMaxTensorValues || extent > (kMaxTensorValues - 1) / tensor.values) {
      cursor.fail("dimension " + std::to_string(i) + " is " + std::to_string(extent) +
                  "; dimensions must be at least 1 and their product below 2^48");
    }
    tensor.values *= extent;
    tensor.shape.push_back(extent);
  }
  const auto type_id = cursor.number<std::uint32_t>("its type");
  const auto type = supported_tensor_type(type_id);
  if (!type) {
    cursor.fail("has type " + ggml_type_name(type_id) +
                ", which is not supported; use a file of " + supported_tensor_type_names());
  }
  tensor.type = *type;
  if (tensor.shape[0] % block_values(*type) != 0) {
    cursor.fail("its rows of " + std::to_string(tensor.shape[0]) + " values are no multiple of the " +
                std::to_string(block_values(*type)) + " that " + std::string(expertscope::name(*type)) + " needs");
  }
  tensor.bytes = tensor_bytes(*type, tensor.values);
  offsets.push_back(cursor.number<std::uint64_t>("its offset"));
  if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) cursor.fail("appears twice");
  tensors_.push_back(std::move(tensor));
}

// ggml writes tensors one after the other, each padded to the alignment; anything else is a damaged or forged file.
void GgufReader::place_tensors(std::int64_t header_end, const std::vector<std::uint64_t>& offsets) {
  const auto padded = [this](std::int64_t bytes) { return (bytes + alignment_ - 1) / alignment_ * alignment_; };
  const std::int64_t data_start = padded(header_end);
  std::int64_t expected = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    GgufTensor& tensor = tensors_[i];
    if (offsets[i] != static_cast<std::uint64_t>(expected)) {
      fail_at(tensor.info_offset, "tensor " + quote(tensor.name) + ": offset " + std::to_string(offsets[i]) +
                                      " where the end of the previous tensor asks for " + std::to_string(expected) +
                                      "; gaps, overlaps and reordering are refused, the file is damaged");
    }
    tensor.file_offset = data_start + expected;
    if (tensor.bytes > file_bytes_ - tensor.file_offset) {
      fail_at(tensor.info_offset, "tensor " + quote(tensor.name) + ": its " + std::to_string(tensor.bytes) +
                                      " bytes at " + std::to_string(tensor.file_offset) +
                                      " go past the end of the file (" + std::to_string(file_bytes_) +
                                      " bytes); the file is cut off, fetch it again");
    }
    // The sum cannot overflow: every tensor so far lies within the file.
    expected += padded(tensor.bytes);
  }
}

std::int64_t GgufReader::data_bytes() const {
  std::int64_t sum = 0;
  for (const GgufTensor& tensor : tensors_) sum += tensor.bytes;
  return sum;
}

void GgufReader::read(std::int64_t file_offset, std::span<std::byte> out, std::string_view what) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), file_offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      fail_at(file_offset, "cannot be read at " + std::string(what) + " (" + system_error() + "); check the disk");
    if (n == 0) {
      fail_at(file_offset,
              "ended while reading " + std::string(what) + "; it was shortened meanwhile, restore the file");
    }
    out = out.subspan(static_cast<std::size_t>(n));
    file_offset += n;
  }
}

std::string GgufReader::sha256() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0 || info.st_size != file_bytes_ ||
      info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec != changed_ns_) {
    throw RunError(quote(path_.string()) +
                   " changed after it was loaded; its checksum would not be that of the model in "
                   "use, start again");
  }
  Sha256 hash;
  std::vector<std::byte> buffer(1024 * 1024);
  for (std::int64_t offset = 0; offset < file_bytes_;) {
    const std::span<std::byte> piece = std::span(buffer).first(
        static_cast<std::size_t>(std::min<std::int64_t>(file_bytes_ - offset, std::ssize(buffer))));
    read(offset, piece, "the file for its checksum");
    hash.update(piece);
    offset += std::ssize(piece);
  }
  return hash.hex();
}

bool GgufReader::has(std::string_view key) const {
  return find(key) != nullptr;
}

std::optional<std::int64_t> GgufReader::find_integer(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  return to_integer(key, *value);
}

std::optional<double> GgufReader::find_number(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  if (const double* number = std::get_if<double>(&value->data)) return *number;
  fail_type(key, *value, "f32 or f64");
}

std::optional<bool> GgufReader::find_bool(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  if (const bool* flag = std::get_if<bool>(&value->data)) return *flag;
  fail_type(key, *value, "bool");
}

std::optional<std::string> GgufReader::find_string(std::string_view key) const {
  const Value* value = find(key);
  if (!value) return std::nullopt;
  if (const std::string* text = std::get_if<std::string>(&value->data)) return *text;
  fail_type(key, *value, "string");
}

std::int64_t GgufReader::integer(std::string_view key, std::int64_t min, std::int64_t max) const {
  const std::int64_t value = to_integer(key, required(key));
  if (value < min || value > max) {
    fail_key(key,
             "is " + std::to_string(value) + "; it must be from " + std::to_string(min) + " to " + std::to_string(max));
  }
  return value;
}

std::int64_t GgufReader::integer_or(std::string_view key, std::int64_t min, std::int64_t max,
                                    std::int64_t absent) const {
  return has(key) ? integer(key, min, max) : absent;
}

std::string GgufReader::string(std::string_view key) const {
  required(key);
  return *find_string(key);
}

std::vector<std::int64_t> GgufReader::integers(std::string_view key) const {
  const Value& value = required(key);
  const Array* array = std::get_if<Array>(&value.data);
  if (!array) return {to_integer(key, value)};
  if (!is_integer(array->element)) fail_type(key, value, "an array of integers");
  std::vector<std::int64_t> out(static_cast<std::size_t>(array->count));
  const auto bytes = static_cast<std::size_t>(scalar_bytes(array->element));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = integer_from(array->element, array->bytes.data() + i * bytes);
  return out;
}

std::vector<std::int32_t> GgufReader::int32_array(std::string_view key) const {
  const Array& array = array_of(key, GgufType::i32);
  std::vector<std::int32_t> out(static_cast<std::size_t>(array.count));
  std::memcpy(out.data(), array.bytes.data(), array.bytes.size());
  return out;
}

std::vector<float> GgufReader::float_array(std::string_view key) const {
  const Array& array = array_of(key, GgufType::f32);
  std::vector<float> out(static_cast<std::size_t>(array.count));
  std::memcpy(out.data(), array.bytes.data(), array.bytes.size());
  return out;
}

std::vector<std::string> GgufReader::string_array(std::string_view key) const {
  const Array& array = array_of(key, GgufType::string);
  std::vector<std::string> out;
  out.reserve(array.ends.size());
  std::size_t begin = 0;
  for (const std::uint64_t end : array.ends) {
    out.push_back(array.bytes.substr(begin, end - begin));
    begin = end;
  }
  return out;
}

const GgufTensor* GgufReader::find_tensor(std::string_view tensor) const {
  const auto it = tensor_index_.find(tensor);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

const GgufReader::Value* GgufReader::find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

const GgufReader::Value& GgufReader::required(std::string_view key) const {
  const Value* value = find(key);
  if (!value) fail_key(key, "is missing; the file is incomplete, convert the model again");
  return *value;
}

const GgufReader::Array& GgufReader::array_of(std::string_view key, GgufType element) const {
  const Value& value = required(key);
  const Array* array = std::get_if<Array>(&value.data);
  if (!array || array->element != element) fail_type(key, value, "array of " + std::string(expertscope::name(element)));
  return *array;
}

std::int64_t GgufReader::to_integer(std::string_view key, const Value& value) const {
  if (const std::int64_t* number = std::get_if<std::int64_t>(&value.data)) return *number;
  if (std::holds_alternative<std::uint64_t>(value.data)) fail_key(key, "is beyond 2^63; the file is damaged");
  fail_type(key, value, "an integer");
}

void GgufReader::fail_type(std::string_view key, const Value& value, std::string_view wanted) const {
  std::string type(expertscope::name(value.type));
  if (const Array* array = std::get_if<Array>(&value.data))
    type += " of " + std::string(expertscope::name(array->element));
  fail_key(key, "has type " + type + " instead of " + std::string(wanted) + "; the file is damaged");
}

void GgufReader::fail_key(std::string_view key, const std::string& problem) const {
  const Value* value = find(key);
  const std::string message = "key " + quote(key) + " " + problem;
  if (value) fail_at(value->offset, message);
  fail(message);
}

void GgufReader::fail_tensor(std::string_view tensor, const std::string& problem) const {
  const GgufTensor* found = find_tensor(tensor);
  const std::string message = "tensor " + quote(tensor) + " " + problem;
  if (found) fail_at(found->info_offset, message);
  fail(message);
}

void GgufReader::fail_at(std::int64_t offset, const std::string& problem) const {
  throw InputError(escaped(path_.string()) + ", byte " + std::to_string(offset) + ": " + problem);
}

void GgufReader::fail(const std::string& problem) const {
  throw InputError(escaped(path_.string()) + ": " + problem);
}

}  // namespace expertscope

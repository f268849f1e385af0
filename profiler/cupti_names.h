// Kernel names as numbers. CUPTI gives each record a pointer to the mangled name; it is looked up by that pointer and
// demangled once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace expertscope {

class CuptiNames {
 public:
  struct Ids {
    std::uint32_t demangled = 0, short_name = 0, mangled = 0;
  };
  // The name must be readable now; its pointer may stand for another name later. nullptr: "(unknown)".
  const Ids& of(const char* mangled);

  // Numbers that came since the last call, with their texts.
  std::vector<std::pair<std::uint32_t, std::string>> take_new();

 private:
  std::uint32_t id_of(const std::string& text);

  struct Known {
    std::string mangled;
    Ids ids;
  };
  std::unordered_map<const char*, Known> by_pointer_;
  std::unordered_map<std::string, std::uint32_t> ids_;
  std::vector<std::pair<std::uint32_t, std::string>> new_;
};

// "_ZN3foo3barIiEEvPT_" as "void foo::bar<int>(int*)"; what is no mangled name as it is.
std::string demangled_name(const char* mangled);
// The function's own name: "void foo::bar<int>(int*)" gives "bar".
std::string short_kernel_name(std::string_view demangled);

}  // namespace expertscope

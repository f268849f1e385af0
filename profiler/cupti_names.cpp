#include "profiler/cupti_names.h"

#include <cstdlib>
#include <memory>

#include <cxxabi.h>

namespace expertscope {

std::string demangled_name(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(mangled, nullptr, nullptr, &status),
                                                    &std::free);
  return status == 0 && text ? text.get() : mangled;
}

std::string short_kernel_name(std::string_view demangled) {
  // The arguments begin at the first "(" outside of template brackets; "(anonymous namespace)" is no argument list.
  constexpr std::string_view anonymous = "(anonymous namespace)";
  std::size_t begin = 0, end = demangled.size();
  int depth = 0;
  for (std::size_t i = 0; i < demangled.size(); ++i) {
    const char c = demangled[i];
    if (depth == 0 && demangled.substr(i).starts_with(anonymous)) {
      i += anonymous.size() - 1;
    } else if (c == '<') {
      if (depth++ == 0) end = i;
    } else if (c == '>') {
      --depth;
    } else if (depth == 0 && (c == ':' || c == ' ')) {
      begin = i + 1;
      end = demangled.size();
    } else if (depth == 0 && c == '(') {
      end = std::min(end, i);
      break;
    }
  }
  return std::string(begin < end ? demangled.substr(begin, end - begin) : demangled);
}

std::uint32_t CuptiNames::id_of(const std::string& text) {
  const auto [place, is_new] = ids_.try_emplace(text, static_cast<std::uint32_t>(ids_.size() + 1));
  if (is_new) new_.emplace_back(place->second, text);
  return place->second;
}

const CuptiNames::Ids& CuptiNames::of(const char* mangled) {
  const char* text = mangled != nullptr ? mangled : "(unknown)";
  Known& known = by_pointer_[mangled];
  if (known.ids.mangled != 0 && known.mangled == text) return known.ids;
  known.mangled = text;
  const std::string demangled = demangled_name(text);
  known.ids = {id_of(demangled), id_of(short_kernel_name(demangled)), id_of(known.mangled)};
  return known.ids;
}

std::vector<std::pair<std::uint32_t, std::string>> CuptiNames::take_new() {
  return std::exchange(new_, {});
}

}  // namespace expertscope

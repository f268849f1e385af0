#include "assets/fonts/embedded_fonts.h"

#ifdef ES_SANS_FONT
asm(".section .rodata\n"
    ".balign 16\n"
    "expertscope_sans_font_begin:\n"
    ".incbin \"" ES_SANS_FONT
    "\"\n"
    "expertscope_sans_font_end:\n"
    ".previous\n");
extern "C" const unsigned char expertscope_sans_font_begin[], expertscope_sans_font_end[];
#endif

#ifdef ES_STRONG_FONT
asm(".section .rodata\n"
    ".balign 16\n"
    "expertscope_strong_font_begin:\n"
    ".incbin \"" ES_STRONG_FONT
    "\"\n"
    "expertscope_strong_font_end:\n"
    ".previous\n");
extern "C" const unsigned char expertscope_strong_font_begin[], expertscope_strong_font_end[];
#endif

#ifdef ES_MONO_FONT
asm(".section .rodata\n"
    ".balign 16\n"
    "expertscope_mono_font_begin:\n"
    ".incbin \"" ES_MONO_FONT
    "\"\n"
    "expertscope_mono_font_end:\n"
    ".previous\n");
extern "C" const unsigned char expertscope_mono_font_begin[], expertscope_mono_font_end[];
#endif

namespace expertscope {

std::span<const unsigned char> embedded_sans_font() {
#ifdef ES_SANS_FONT
  return {expertscope_sans_font_begin, expertscope_sans_font_end};
#else
  return {};
#endif
}

std::span<const unsigned char> embedded_strong_font() {
#ifdef ES_STRONG_FONT
  return {expertscope_strong_font_begin, expertscope_strong_font_end};
#else
  return {};
#endif
}

std::span<const unsigned char> embedded_mono_font() {
#ifdef ES_MONO_FONT
  return {expertscope_mono_font_begin, expertscope_mono_font_end};
#else
  return {};
#endif
}

}  // namespace expertscope

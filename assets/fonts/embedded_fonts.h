// The window's fonts, compiled into the program so that it looks the same wherever it runs. They are taken from font
// packages at build time: Inter (SIL Open Font License 1.1) and JetBrains Mono (SIL Open Font License 1.1). The bytes
// are an OpenType or TrueType file and live as long as the program; empty when the build found no such font.
#pragma once

#include <span>

namespace expertscope {

std::span<const unsigned char> embedded_sans_font();
std::span<const unsigned char> embedded_strong_font();  // the sans, heavier
std::span<const unsigned char> embedded_mono_font();

}  // namespace expertscope

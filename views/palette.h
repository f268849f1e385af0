// What is drawn in which colour: one meaning everywhere, safe for colour-blind eyes (Okabe and Ito's palette). Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/ids.h"

namespace expertscope {

using Color = std::uint32_t;  // 0xAABBGGRR, as Dear ImGui packs it

constexpr Color rgb(std::uint32_t hex) {
  return 0xff000000u | ((hex & 0xffu) << 16) | (hex & 0xff00u) | (hex >> 16 & 0xffu);
}
constexpr Color with_alpha(Color color, double alpha) {
  return (color & 0x00ffffffu) | static_cast<Color>(alpha * 255.0 + 0.5) << 24;
}
Color mix(Color a, Color b, double share_of_b);
// Black or white, whichever reads better on it.
Color text_on(Color background);

// How far a prefetch got. Its colour follows.
enum class PrefetchFate : std::uint8_t { pending, used, late, wasted };
std::string_view name(PrefetchFate);

struct Palette {
  // surfaces and type
  Color window = 0, panel = 0, raised = 0, border = 0, grid = 0;
  Color text = 0, text_dim = 0, text_faint = 0;
  Color accent = 0, selection = 0, marker = 0, warning = 0, loss = 0, ok = 0;
  // meanings
  Color gpu = 0, cpu = 0, cpu_early = 0, demand = 0, prefetch = 0, prefetch_late = 0, promotion = 0, placement = 0,
        host = 0, other = 0, changed = 0;
  Color hit = 0, miss = 0;

  Color of(WorkKind) const;
  Color of(CopyReason) const;
  Color of(PrefetchFate) const;
  Color of(DemandState) const;
  Color of(Outcome) const;
};

const Palette& dark_palette();
const Palette& light_palette();

// Perceptually uniform map for amounts, 0..1.
Color viridis(double share);

}  // namespace expertscope

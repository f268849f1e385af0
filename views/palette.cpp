#include "views/palette.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace expertscope {
namespace {

double channel(Color color, int shift) {
  return static_cast<double>(color >> shift & 0xffu);
}

void set_meanings(Palette& p) {
  p.gpu = rgb(0x0072B2);
  p.cpu = rgb(0xCC79A7);
  p.cpu_early = mix(p.cpu, rgb(0x000000), 0.55);  // told from `cpu` by its darkness and its outline
  p.demand = p.miss = rgb(0xD55E00);
  p.prefetch = p.hit = p.ok = rgb(0x009E73);
  p.prefetch_late = rgb(0xF0E442);
  p.promotion = rgb(0xE69F00);
  p.changed = rgb(0x56B4E9);
  p.warning = rgb(0xE69F00);
  p.loss = rgb(0xD55E00);
}

Palette make_dark() {
  Palette p;
  set_meanings(p);
  p.window = rgb(0x101317);
  p.panel = rgb(0x171B21);
  p.raised = rgb(0x222831);
  p.border = rgb(0x2C333D);
  p.grid = rgb(0x242A33);
  p.text = rgb(0xE3E8EE);
  p.text_dim = rgb(0x9AA5B2);
  p.text_faint = rgb(0x66717F);
  p.accent = rgb(0x3D9BE0);
  p.selection = rgb(0xF2F5F8);
  p.marker = rgb(0xFFFFFF);
  p.host = rgb(0x8A929C);
  p.other = rgb(0x596471);
  p.placement = rgb(0x7C8CA3);
  return p;
}

Palette make_light() {
  Palette p;
  set_meanings(p);
  p.window = rgb(0xE9ECF0);
  p.panel = rgb(0xFBFCFD);
  p.raised = rgb(0xE8ECF1);
  p.border = rgb(0xCBD2DA);
  p.grid = rgb(0xE6E9EE);
  p.text = rgb(0x15191E);
  p.text_dim = rgb(0x515C69);
  p.text_faint = rgb(0x8791A0);
  p.accent = rgb(0x0F6CBD);
  p.selection = rgb(0x15191E);
  p.marker = rgb(0x000000);
  p.host = rgb(0x808891);
  p.other = rgb(0xB4BCC6);
  p.placement = rgb(0x6B7C94);
  return p;
}

}  // namespace

Color mix(Color a, Color b, double share_of_b) {
  Color result = 0;
  for (int shift = 0; shift < 32; shift += 8) {
    const double value = channel(a, shift) * (1 - share_of_b) + channel(b, shift) * share_of_b;
    result |= static_cast<Color>(std::clamp(value + 0.5, 0.0, 255.0)) << shift;
  }
  return result;
}

Color text_on(Color background) {
  const double luminance =
      0.299 * channel(background, 0) + 0.587 * channel(background, 8) + 0.114 * channel(background, 16);
  return luminance > 140 ? rgb(0x0B0D10) : rgb(0xFFFFFF);
}

std::string_view name(PrefetchFate fate) {
  switch (fate) {
    case PrefetchFate::pending:
      return "not asked for yet";
    case PrefetchFate::used:
      return "used in time";
    case PrefetchFate::late:
      return "late";
    case PrefetchFate::wasted:
      return "wasted";
  }
  return "?";
}

Color Palette::of(WorkKind kind) const {
  switch (kind) {
    case WorkKind::expert:
      return gpu;
    case WorkKind::attention:
      return mix(gpu, rgb(0xFFFFFF), 0.28);
    case WorkKind::embed:
    case WorkKind::combine:
    case WorkKind::head:
      return mix(gpu, rgb(0xFFFFFF), 0.5);
    case WorkKind::router:
    case WorkKind::routing_sync:
      return host;
    case WorkKind::policy:
      return mix(host, text, 0.35);
    case WorkKind::sampling:
      return mix(host, panel, 0.35);
    case WorkKind::wait_demand:
      return demand;
    case WorkKind::wait_prefetch:
      return prefetch_late;
    case WorkKind::wait_placement:
      return placement;
    case WorkKind::wait_activation:
      return cpu;
  }
  return other;
}

Color Palette::of(CopyReason reason) const {
  switch (reason) {
    case CopyReason::demand:
      return demand;
    case CopyReason::promotion:
      return promotion;
    case CopyReason::prefetch:
      return prefetch;
    case CopyReason::placement:
      return placement;
    case CopyReason::activation:
    case CopyReason::input:
      return host;
  }
  return other;
}

Color Palette::of(PrefetchFate fate) const {
  return fate == PrefetchFate::late ? prefetch_late : prefetch;
}

Color Palette::of(DemandState state) const {
  switch (state) {
    case DemandState::hit:
      return hit;
    case DemandState::late:
      return prefetch_late;
    case DemandState::miss:
      return miss;
  }
  return other;
}

Color Palette::of(Outcome outcome) const {
  switch (outcome) {
    case Outcome::gpu:
      return gpu;
    case Outcome::fetched:
    case Outcome::streamed:
      return demand;
    case Outcome::cpu:
      return cpu;
    case Outcome::cpu_early:
      return cpu_early;
    case Outcome::skipped:
    case Outcome::substituted:
      return changed;
  }
  return other;
}

const Palette& dark_palette() {
  static const Palette palette = make_dark();
  return palette;
}

const Palette& light_palette() {
  static const Palette palette = make_light();
  return palette;
}

Color viridis(double share) {
  constexpr std::array<std::uint32_t, 17> kStops = {0x440154, 0x48186A, 0x472D7B, 0x424086, 0x3B528B, 0x33638D,
                                                    0x2C728E, 0x26828E, 0x21918C, 0x1FA088, 0x28AE80, 0x3FBC73,
                                                    0x5EC962, 0x84D44B, 0xADDC30, 0xD8E219, 0xFDE725};
  const double place = std::clamp(std::isfinite(share) ? share : 0.0, 0.0, 1.0) * (kStops.size() - 1);
  const auto low = std::min(static_cast<std::size_t>(place), kStops.size() - 2);
  return mix(rgb(kStops[low]), rgb(kStops[low + 1]), place - static_cast<double>(low));
}

}  // namespace expertscope

#include <algorithm>

#include "engine/machines/cuda/layer_picks.h"

namespace expertscope::cuda {

LayerPicks::LayerPicks(int max_step_tokens, const RouterRule& rule) : top_k_(rule.top_k) {
  const std::int64_t picks = std::int64_t{max_step_tokens} * rule.top_k;
  const std::int64_t most_tiles = picks / kSmallTile + rule.experts + 1;
  const std::int64_t upload =
      picks * static_cast<std::int64_t>(sizeof(PickRow)) + most_tiles * static_cast<std::int64_t>(sizeof(Tile)) + 32;
  upload_ = MappedArray<std::byte>(upload);
  uploaded_ = DeviceArray<std::byte>(upload);
}

void LayerPicks::lay_out(std::span<const RouteRecord> routes, std::span<const Arithmetic::ExpertRow> rows,
                         int tile_rows, const Slots* resident) {
  auto* picks = reinterpret_cast<PickRow*>(upload_.data());
  const std::size_t count = rows.size();
  for (std::size_t i = 0; i < count; ++i) {
    picks[i] = {rows[i].token, rows[i].token * top_k_ + rows[i].rank};
  }
  tiles_at_ = (count * sizeof(PickRow) + 15) / 16 * 16;
  auto* tiles = reinterpret_cast<Tile*>(upload_.data() + tiles_at_);
  tile_count_ = 0, most_rows_ = 1, tiled_rows_ = 0;
  for (std::size_t i = 0; i < count;) {
    // Rows lie by expert: a run of equal experts is one demand.
    const RouteRecord& route = routes[static_cast<std::size_t>(rows[i].token)];
    const std::uint16_t expert = route.expert[static_cast<std::size_t>(rows[i].rank)];
    std::size_t end = i + 1;
    while (end < count &&
           routes[static_cast<std::size_t>(rows[end].token)].expert[static_cast<std::size_t>(rows[end].rank)] ==
               expert) {
      ++end;
    }
    const std::uint64_t blob = resident != nullptr ? resident->published({route.layer, expert}) : 0;
    for (std::size_t first = i; blob != 0 && first < end; first += static_cast<std::size_t>(tile_rows)) {
      const int n = static_cast<int>(std::min(end - first, static_cast<std::size_t>(tile_rows)));
      tiles[tile_count_++] = {blob, static_cast<std::int32_t>(first), n};
      most_rows_ = std::max(most_rows_, n);
      tiled_rows_ += static_cast<std::size_t>(n);
    }
    i = end;
  }
}

void LayerPicks::upload(cudaStream_t stream) {
  move(upload_.data(), uploaded_.data(),
       static_cast<std::int64_t>(tiles_at_ + static_cast<std::size_t>(tile_count_) * sizeof(Tile)), stream);
}

}  // namespace expertscope::cuda

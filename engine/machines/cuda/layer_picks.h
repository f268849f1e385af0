// What the kernels of experts read in steps of several tokens: the picks of a layer by expert, and a tile for every few
// rows of each expert that is there.
#pragma once

#include <span>

#include "engine/machine.h"
#include "engine/machines/cuda/device.h"
#include "engine/machines/cuda/kernels.h"
#include "engine/machines/cuda/slots.h"

namespace expertscope::cuda {

class LayerPicks {
 public:
  LayerPicks(int max_step_tokens, const RouterRule&);

  // Lays out a layer's picks on the host; rows lie by expert. Tiles of at most tile_rows for the experts that are
  // published in `resident`; nullptr: none.
  void lay_out(std::span<const RouteRecord> routes, std::span<const Arithmetic::ExpertRow> rows, int tile_rows,
               const Slots* resident);
  // On their way to the device, in the stream's order. Before the next lay_out the host waits for a later operation.
  void upload(cudaStream_t);

  const PickRow* picks() const { return reinterpret_cast<const PickRow*>(uploaded_.data()); }  // on the device
  const Tile* tiles() const { return reinterpret_cast<const Tile*>(uploaded_.data() + tiles_at_); }
  int tile_count() const { return tile_count_; }
  int most_rows() const { return most_rows_; }            // of a tile
  std::size_t tiled_rows() const { return tiled_rows_; }  // of all tiles

 private:
  int top_k_;
  MappedArray<std::byte> upload_;
  DeviceArray<std::byte> uploaded_;
  std::size_t tiles_at_ = 0, tiled_rows_ = 0;
  int tile_count_ = 0, most_rows_ = 1;
};

}  // namespace expertscope::cuda

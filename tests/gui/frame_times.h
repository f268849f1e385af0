// How long the workbench takes to build a frame over a large session.
#pragma once

namespace expertscope {

// Prints milliseconds of CPU for the first frame and for frames at several zooms, over a made-up session of about so
// many records. Returns 1 when a frame takes longer than the 4 ms that are allowed.
int report_frame_times(long records);

}  // namespace expertscope

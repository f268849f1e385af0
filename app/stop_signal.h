// SIGINT and SIGTERM as a wish: the run ends in order at the next token boundary. A second one ends the program at
// once.
#pragma once

namespace expertscope {

// Also ignores SIGXFSZ, so that a file-size limit is a failed write with a message and not a sudden end.
void install_stop_signals();
// The signal that asked for the end, 0 when none did. Any thread.
int stop_signal();

}  // namespace expertscope

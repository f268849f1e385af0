// The two ways in which the world can fail us. Each carries one message that says what went wrong, where, and what to
// do.
#pragma once

#include <stdexcept>

namespace expertscope {

// Bad usage or bad input: an option, a file's content, a machine that cannot hold the model. The program exits with 2.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Something failed while running: a full disk, a lost device. The program exits with 1.
class RunError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace expertscope

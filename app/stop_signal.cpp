#include "app/stop_signal.h"

#include <atomic>
#include <csignal>

namespace expertscope {
namespace {

std::atomic<int> received = 0;  // lock-free, so a handler may use it
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void remember_signal(int number) {
  if (received.exchange(number) == 0) return;
  std::signal(number, SIG_DFL);
  std::raise(number);
}

}  // namespace

void install_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = remember_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGXFSZ, SIG_IGN);
}

int stop_signal() {
  return received;
}

}  // namespace expertscope

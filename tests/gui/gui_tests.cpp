#include <string>
namespace expertscope {
int run_gui_tests(const std::string&) { return 0; }
}

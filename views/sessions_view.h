// The sessions window: saved runs with their headline numbers; open, rename, note, delete to the trash.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "views/view.h"

namespace expertscope {

class SessionsView {
 public:
  void draw(ViewContext&, double now_s);
  void refresh() { listed_at_s_ = -1e9; }

 private:
  void draw_row(ViewContext&, const SessionSummary&);
  void draw_editor(ViewContext&);
  void open(ViewContext&, const SessionSummary&);

  std::optional<std::vector<SessionSummary>> sessions_;  // nothing: not listed yet
  std::map<std::string, bool> inexact_;                  // by policy
  double listed_at_s_ = -1e9;
  std::string error_;  // stays until dismissed
  enum class Edit { none, name, note, trash } edit_ = Edit::none;
  std::string edited_path_, edited_name_;
  std::string text_;
  bool open_editor_ = false;
};

}  // namespace expertscope

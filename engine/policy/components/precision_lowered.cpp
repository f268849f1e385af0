// Every expert in one precision below the file's: a smaller model in the same budget.
#include "engine/policy/components/all.h"
#include "engine/policy/components/parameters.h"

namespace expertscope::components {
namespace {

class Lowered final : public PrecisionChooser {
 public:
  explicit Lowered(const Parameters& p)
      : precision_(p.integer("bits") == 0   ? Precision::int8
                   : p.integer("bits") == 1 ? Precision::int4
                                            : Precision::int2) {}
  Precision high(const PolicyContext&) override { return precision_; }
  bool exact() const override { return false; }

 private:
  Precision precision_;
};

}  // namespace

ComponentEntry precision_lowered() {
  return {.decl = {.kind = ComponentKind::precision,
                   .name = "lowered",
                   .help = "Every expert in one precision below the file's (inexact).",
                   .parameters = {choice("bits", {"int8", "int4", "int2"}, "The precision of all experts.")}},
          .make = [](const Parameters& p) { return std::make_unique<Lowered>(p); }};
}

}  // namespace expertscope::components

#include "app/commands/info.h"

#include <memory>

#include "engine/model/info.h"

namespace expertscope {

void add_info(CLI::App& program, Action& action) {
  struct Options {
    std::string model;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("info", "What is in a GGUF file");
  command->add_option("MODEL", options->model, "GGUF file")->required();
  command->add_flag("--json", options->json, "As JSON");
  command->callback([&action, options] {
    action = [options] {
      const nlohmann::json info = model_info(options->model);
      if (options->json)
        print_json(info);
      else
        print(model_info_text(info));
      return kExitDone;
    };
  });
}

}  // namespace expertscope

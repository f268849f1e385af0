// The small files and lists that a run reads: prompts, token ids, scripts. Each is checked against what is declared;
// what is unknown or senseless throws InputError with the file, the place in it and what is accepted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "engine/command.h"
#include "engine/policy/registry.h"
#include "engine/run/runner.h"

namespace expertscope {

inline constexpr std::size_t kMaxInputBytes = std::size_t{64} << 20;

// A whole file of at most kMaxInputBytes.
std::string read_file(const std::filesystem::path&);
// InputError when `text` is not valid UTF-8; `origin` names it ("--prompt", a path).
void check_utf8(std::string_view text, const std::string& origin);

// A JSON object of lists ({"tale": ["…"], …}: name of a workload, its prompts), in file order, or a plain text file
// with one prompt a line (blank lines left out). A file that begins with '{' is JSON. Token ids are left empty.
std::vector<PromptItem> load_prompts(const std::filesystem::path&);
// "1,75,104".
std::vector<std::int32_t> parse_ids(std::string_view list, const std::string& origin);
// A JSON list of token ids.
std::vector<std::int32_t> load_ids(const std::filesystem::path&);
// InputError unless every id is one of the vocabulary.
void check_ids(const std::vector<std::int32_t>& ids, int vocab, const std::string& origin);

// A change of a script: applied before the token with this number (of the whole run, from 0) is computed.
struct ScriptChange {
  std::uint32_t at_token = 0;
  Command command;
};

// [{"at_token": 12, "policy": "lfu"}, {"at_token": 24, "cache_ratio": 0.5}, {"at_token": 36, "set":
// {"prefetcher.depth": 2}}], in the order of tokens. Beside those keys: "reset_cache": true and "mark": "text". Checked
// as if applied to a run that starts with `policy` and `cache_ratio`. Where one entry changes policy and ratio, the
// change that makes room comes first.
std::vector<ScriptChange> load_script(const std::filesystem::path&, PolicySpec policy, double cache_ratio);
std::vector<ScriptChange> parse_script(const std::string& json_text, const std::string& origin, PolicySpec policy,
                                       double cache_ratio);

}  // namespace expertscope

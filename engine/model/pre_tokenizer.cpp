#include "engine/model/pre_tokenizer.h"

#include <limits>
#include <span>
#include <string>

#include <pcre2.h>

#include "engine/assert.h"
#include "engine/model/text_escape.h"

namespace expertscope {

namespace {

// \s stands inside brackets alone, so that it can be spelled out: PCRE2 also takes U+180E for a space, and the
// tokenizers that the models were trained with do not.
#define ES_WORDS R"( ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|[\s]+(?![^\s])|[\s]+)"
#define ES_WORDS_AND_LINES R"( ?[^\s\p{L}\p{N}]+[\r\n]*|[\s]*[\r\n]+|[\s]+(?![^\s])|[\s]+)"
constexpr std::string_view kSpaces =
    R"(\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

constexpr const char* kGpt2[] = {"'s|'t|'re|'ve|'m|'ll|'d|" ES_WORDS};
constexpr const char* kQwen2[] = {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)" ES_WORDS_AND_LINES};
constexpr const char* kLlama3[] = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)" ES_WORDS_AND_LINES};
constexpr const char* kDefault[] = {R"([\p{P}$+<=>^~|]+)", "'s|'t|'re|'ve|'m|'ll|'d|" ES_WORDS, R"(\p{N}+)",
                                    "[0-9][0-9][0-9]"};
#undef ES_WORDS
#undef ES_WORDS_AND_LINES

struct Rules {
  std::string_view name;
  std::span<const char* const> patterns;
  bool words_before_merges = false, adds_bos = false;
};
constexpr Rules kRules[] = {
    {"default", kDefault},           {"qwen2", kQwen2}, {"llama-bpe", kLlama3, true, true},
    {"llama3", kLlama3, true, true}, {"olmo", kGpt2},   {"gpt-2", kGpt2},
};

const Rules* find_rules(std::string_view name) {
  for (const Rules& rules : kRules)
    if (rules.name == name) return &rules;
  return nullptr;
}

std::string with_spaces_spelled_out(std::string_view pattern) {
  std::string out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern.substr(i).starts_with("\\s")) {
      out += kSpaces;
      ++i;
    } else {
      out += pattern[i];
    }
  }
  return out;
}

}  // namespace

class PreTokenizer::Pattern {
 public:
  explicit Pattern(std::string_view text) {
    const std::string pattern = with_spaces_spelled_out(text);
    int error = 0;
    PCRE2_SIZE at = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP,
                              &error, &at, nullptr));
    ES_ASSERT(code_, "the patterns are our own");
    // Without it, where the library was built so, matching is slower and the same.
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
  }

  // Cuts valid UTF-8 into what the pattern matches and what lies between.
  void cut(std::string_view text, std::vector<std::string_view>& out) const {
    const std::unique_ptr<pcre2_match_data, Free> match(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    const std::unique_ptr<pcre2_match_context, Free> context(pcre2_match_context_create(nullptr));
    ES_ASSERT(match && context, "memory for a match");
    pcre2_set_match_limit(context.get(), std::numeric_limits<std::uint32_t>::max());  // a run of spaces may be long
    std::size_t done = 0;
    while (done < text.size()) {
      const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), done,
                                    PCRE2_NO_UTF_CHECK, match.get(), context.get());
      if (found == PCRE2_ERROR_NOMATCH) break;
      ES_ASSERT(found > 0, "no pattern runs into a limit");
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
      ES_ASSERT(range[1] > range[0], "no pattern matches nothing");
      if (range[0] > done) out.push_back(text.substr(done, range[0] - done));
      out.push_back(text.substr(range[0], range[1] - range[0]));
      done = range[1];
    }
    if (done < text.size()) out.push_back(text.substr(done));
  }

 private:
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
    void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  };
  std::unique_ptr<pcre2_code, Free> code_;
};

PreTokenizer::PreTokenizer(std::string_view name) {
  const Rules* rules = find_rules(knows(name) ? name : "default");
  name_ = rules->name;
  words_before_merges_ = rules->words_before_merges;
  adds_bos_ = rules->adds_bos;
  for (const char* pattern : rules->patterns) patterns_.emplace_back(pattern);
}

PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

bool PreTokenizer::knows(std::string_view name) {
  return find_rules(name) != nullptr;
}

void PreTokenizer::split(std::string_view text, const std::function<void(std::string_view)>& word) const {
  std::vector<std::string_view> words, finer;
  while (!text.empty()) {
    const bool valid = utf8_length(text) > 0;
    std::size_t end = 0;  // of the stretch at the start that is UTF-8, or is not
    while (end < text.size()) {
      const auto n = static_cast<std::size_t>(utf8_length(text.substr(end)));
      if ((n > 0) != valid) break;
      end += valid ? n : 1;
    }
    words.assign(1, text.substr(0, end));
    text.remove_prefix(end);
    for (const Pattern& pattern : patterns_) {
      if (!valid) break;
      finer.clear();
      for (const std::string_view piece : words) pattern.cut(piece, finer);
      words.swap(finer);
    }
    for (const std::string_view piece : words) word(piece);
  }
}

}  // namespace expertscope

// Cuts a text into the words within which a byte-level tokenizer merges. Which rules a model was trained with stands in
// its file as a name (`tokenizer.ggml.pre`); the rules themselves are regular expressions, applied one after the other.
// Immutable after construction; all functions may be called from any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace expertscope {

class PreTokenizer {
 public:
  explicit PreTokenizer(std::string_view name);  // the rules "default" for a name that is not known
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;

  static bool knows(std::string_view name);

  std::string_view name() const { return name_; }                    // of the rules in use
  bool words_before_merges() const { return words_before_merges_; }  // a word that is a token is never cut further
  bool adds_bos() const { return adds_bos_; }                        // where the file says nothing

  // Gives the words in order; together they are the text. Bytes that are not UTF-8 are words of their own.
  void split(std::string_view text, const std::function<void(std::string_view)>& word) const;

 private:
  class Pattern;

  std::string_view name_;
  bool words_before_merges_ = false, adds_bos_ = false;
  std::vector<Pattern> patterns_;
};

}  // namespace expertscope

#include "views/token_layout.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/views/sample_trace.h"

namespace expertscope {
namespace {

float ten_a_byte(std::string_view text) {
  return 10.0f * static_cast<float>(text.size());
}

// One token a box, by line; a heading is the number of its prompt.
std::vector<std::string> texts_of(const TokenLines& lines) {
  std::vector<std::string> texts;
  for (std::size_t line = 0; line < lines.lines(); ++line) {
    std::string& text = texts.emplace_back();
    if (lines.heading_of(line) >= 0) text = fmt::format("prompt {}", lines.heading_of(line));
    for (const TokenBox& box : lines.of_line(line)) text += "[" + box.text + "]";
  }
  return texts;
}

TEST(TokenLayout, BreaksLinesBeforeTheyAreTooLong) {
  const Trace trace = sample::trace();
  TokenLines lines;
  lines.update(trace, 600, ten_a_byte);
  std::size_t boxes = 0;
  for (std::size_t line = 0; line < lines.lines(); ++line) {
    for (const TokenBox& box : lines.of_line(line)) {
      ++boxes;
      EXPECT_LE(box.x + box.width, 600);
      EXPECT_EQ(lines.line_of_token(box.token), line);
    }
  }
  EXPECT_EQ(boxes, trace.tokens.size());
}

TEST(TokenLayout, StartsEveryPromptUnderAHeading) {
  const Trace trace = sample::trace();
  TokenLines lines;
  lines.update(trace, 600, ten_a_byte);
  std::vector<int> headings;
  for (std::size_t line = 0; line < lines.lines(); ++line)
    if (lines.heading_of(line) >= 0) headings.push_back(lines.heading_of(line));
  EXPECT_EQ(headings, (std::vector<int>{0, 1}));
}

// A batch gives each of its sequences a token in turn.
TEST(TokenLayout, KeepsEveryPromptsTextTogetherWhenSeveralAreDecodedTogether) {
  Trace trace;
  Batch batch;
  batch.pieces = {{1, "a"}, {2, "b"}, {3, "c"}, {4, "\n"}};
  for (const auto& [prompt, id] : {std::pair{0, 1}, {1, 2}, {0, 3}, {1, 4}, {0, 1}, {1, 3}, {2, 2}})
    batch.tokens.push_back({.prompt = static_cast<std::uint32_t>(prompt), .id = id});
  trace.append(batch);
  TokenLines lines;
  lines.update(trace, 600, ten_a_byte);
  EXPECT_EQ(texts_of(lines),
            (std::vector<std::string>{"prompt 0", "[a][c][a]", "prompt 1", "[b][↵]", "[c]", "prompt 2", "[b]"}));
  EXPECT_EQ(lines.line_of_token(5), 4u);
}

TEST(TokenLayout, GrowsToTheSameLinesAsOneThatWasLaidOutAtOnce) {
  Trace growing;
  TokenLines grown, whole;
  for (const Batch& batch : sample::batches()) {
    growing.append(batch);
    grown.update(growing, 500, ten_a_byte);
  }
  whole.update(growing, 500, ten_a_byte);
  EXPECT_EQ(texts_of(grown), texts_of(whole));
}

TEST(TokenLayout, ShowsLineBreaksTabsAndBrokenTextAsSigns) {
  EXPECT_EQ(shown_piece("a\n"), "a↵");
  EXPECT_EQ(shown_piece("\tx"), "→ x");
  EXPECT_EQ(shown_piece("caf\xc3\xa9"), "café");
  EXPECT_EQ(shown_piece("\xc3"), "·") << "half a character";
  EXPECT_EQ(shown_piece(std::string_view("\0\x1b", 2)), "··");
}

TEST(TokenLayout, NamesATokenByItsNumberWhenItsTextIsUnknown) {
  EXPECT_EQ(token_text(Trace(), 1307), "#1307");
}

}  // namespace
}  // namespace expertscope

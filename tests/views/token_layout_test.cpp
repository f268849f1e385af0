#include "views/token_layout.h"

#include <gtest/gtest.h>

#include "tests/views/sample_trace.h"

namespace expertscope {
namespace {

float ten_a_byte(std::string_view text) {
  return 10.0f * static_cast<float>(text.size());
}

TEST(TokenLayout, BreaksLinesBeforeTheyAreTooLong) {
  const Trace trace = sample::trace();
  TokenLines lines;
  lines.update(trace, 600, ten_a_byte);
  ASSERT_EQ(lines.boxes().size(), trace.tokens.size());
  for (const TokenBox& box : lines.boxes()) EXPECT_LE(box.x + box.width, 600);
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

TEST(TokenLayout, GrowsToTheSameLinesAsOneThatWasLaidOutAtOnce) {
  Trace growing;
  TokenLines grown, whole;
  for (const Batch& batch : sample::batches()) {
    growing.append(batch);
    grown.update(growing, 500, ten_a_byte);
  }
  whole.update(growing, 500, ten_a_byte);
  ASSERT_EQ(grown.lines(), whole.lines());
  for (std::size_t i = 0; i < whole.boxes().size(); ++i) {
    EXPECT_EQ(grown.boxes()[i].line, whole.boxes()[i].line);
    EXPECT_EQ(grown.boxes()[i].x, whole.boxes()[i].x);
  }
  EXPECT_EQ(whole.line_of_token(whole.boxes()[100].token), whole.boxes()[100].line);
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

// Who leaves a pool first, from one look at all of it.
#include "engine/run/victims.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

namespace expertscope {
namespace {

// Ties in everything but the number are frequent.
std::vector<Victim> pool_of(std::size_t experts, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Victim> pool;
  for (std::size_t i = 0; i < experts; ++i) {
    pool.push_back({.held = random() % 4 == 0 ? static_cast<int>(random() % 3) : 0,
                    .score = static_cast<double>(random() % 50),
                    .last_use = random() % 5,
                    .id = {.layer = static_cast<std::uint16_t>(i / 16), .expert = static_cast<std::uint16_t>(i % 16)}});
  }
  return pool;
}

void look_through(Victims& victims, const std::vector<Victim>& pool) {
  std::vector<double> scores;
  for (const Victim& v : pool) scores.push_back(v.score);
  victims.begin(1, scores);
  for (const Victim& v : pool) {
    if (!victims.leaves_out(v.score)) victims.offer(v);
  }
}

TEST(Victims, LeaveInTheOrderOfHoldScoreAgeAndNumberHoweverManyAreAskedFor) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::vector<Victim> pool = pool_of(1 + seed * 43, seed), expected = pool;
    std::ranges::sort(expected, [](const Victim& a, const Victim& b) { return a < b; });
    Victims victims;
    look_through(victims, pool);
    for (const Victim& next : expected) {
      if (victims.empty()) {
        ASSERT_TRUE(victims.left_some_out());
        look_through(victims, pool);
        ASSERT_FALSE(victims.empty());
      }
      const Victim first = victims.take_first();
      ASSERT_EQ(first.id, next.id) << "seed " << seed;
      std::erase_if(pool, [&](const Victim& v) { return v.id == first.id; });
    }
    EXPECT_TRUE(victims.empty() && !victims.left_some_out());
  }
}

// As when a demand's own turn is over, or when something comes to be held for a later layer.
TEST(Victims, TakeTheirPlaceWhenTheyAreOfferedLater) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const std::vector<Victim> all = pool_of(600, seed);
    std::vector<Victim> pool(all.begin(), all.begin() + 450);
    Victims victims;
    look_through(victims, pool);
    for (std::size_t late = 450; late < all.size(); ++late) {
      victims.offer(all[late]);
      pool.push_back(all[late]);
      if (victims.empty()) look_through(victims, pool);
      const Victim first = victims.take_first();
      const auto expected = std::ranges::min_element(pool, [](const Victim& a, const Victim& b) { return a < b; });
      ASSERT_EQ(first.id, expected->id) << "seed " << seed;
      pool.erase(expected);
    }
  }
}

}  // namespace
}  // namespace expertscope

// A model in several files is the same model, and every one of its files is as hostile as a single one.
#include "engine/model/gguf_shards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error.h"
#include "engine/model/info.h"
#include "engine/model/model.h"
#include "engine/model/sha256.h"
#include "tests/engine/model/forward_pass.h"
#include "tests/engine/model/gguf_writer.h"

namespace expertscope {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string name_of(int number, int count) {
  char name[64];
  std::snprintf(name, sizeof name, "tiny-%05d-of-%05d.gguf", number, count);
  return name;
}

// A folder with a model cut into files as llama-gguf-split does it, each of which a test may change.
class SplitModel : public testing::Test {
 protected:
  SplitModel() { cut(3, 0); }
  ~SplitModel() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  // The first `without` files get no tensors.
  void cut(int count, int without) {
    const GgufWriter whole = tiny_model();
    shards_.assign(static_cast<std::size_t>(count), {});
    shards_[0].entries = whole.entries;
    for (std::size_t i = 0; i < whole.tensors.size(); ++i)
      shards_[static_cast<std::size_t>(without) + i % static_cast<std::size_t>(count - without)].tensors.push_back(
          whole.tensors[i]);
    for (int i = 0; i < count; ++i) number(shards_[static_cast<std::size_t>(i)], i, count, whole.tensors.size());
  }
  static void number(GgufWriter& shard, int number, int count, std::size_t tensors) {
    shard.set("split.no", GgufWriter::typed(GgufType::u16, GgufWriter::raw(static_cast<std::uint16_t>(number))));
    shard.set("split.count", GgufWriter::typed(GgufType::u16, GgufWriter::raw(static_cast<std::uint16_t>(count))));
    shard.set("split.tensors.count",
              GgufWriter::typed(GgufType::i32, GgufWriter::raw(static_cast<std::int32_t>(tensors))));
  }

  std::filesystem::path path(int number) const { return folder_ / name_of(number, static_cast<int>(shards_.size())); }
  void write() const {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    for (std::size_t i = 0; i < shards_.size(); ++i) write(path(static_cast<int>(i) + 1), shards_[i].file());
  }
  static void write(const std::filesystem::path& path, std::string_view bytes) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), std::ssize(bytes));
  }
  // The message with which the model is refused; empty when it loads.
  std::string refusal(int give = 1) const { return refusal_of(path(give)); }
  static std::string refusal_of(const std::filesystem::path& path) {
    try {
      const Model model(path);
      return {};
    } catch (const InputError& error) {
      return error.what();
    }
  }

  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("expertscope-split-" + std::to_string(::getpid()));
  std::vector<GgufWriter> shards_;
};

std::vector<float> logits_of(const Model& model) {
  ThreadPool pool(1);
  ModelSteps forward(model, pool);
  forward.step(std::vector<std::int32_t>{1, 5, 9});
  return {forward.logits().begin(), forward.logits().end()};
}

TEST_F(SplitModel, IsTheSameModelAsInOneFile) {
  const TemporaryFile whole(tiny_model().file());
  const Model one(whole.path());
  for (const auto& [count, without] : {std::pair{2, 0}, {3, 0}, {3, 1}, {5, 0}}) {
    cut(count, without);
    write();
    const Model several(path(1));
    EXPECT_EQ(several.file().files().size(), static_cast<std::size_t>(count));
    EXPECT_EQ(logits_of(several), logits_of(one)) << count << " files";
    EXPECT_EQ(several.total_bytes(), one.total_bytes());
  }
}

TEST_F(SplitModel, HasTheChecksumOfItsFilesOneAfterTheOther) {
  write();
  std::string bytes;
  for (const GgufWriter& shard : shards_) bytes += shard.file();
  shards_[2].set_string("general.description", "changed");
  Sha256 hash;
  hash.update(std::as_bytes(std::span(bytes)));
  const std::string before = Model(path(1)).file_sha256();
  EXPECT_EQ(before, hash.hex());
  write();
  EXPECT_NE(Model(path(1)).file_sha256(), before);
}

TEST_F(SplitModel, AsksForItsFirstFile) {
  write();
  for (const int given : {2, 3}) {
    EXPECT_THAT(refusal(given), AllOf(HasSubstr("file " + std::to_string(given) + " of 3"),
                                      HasSubstr("give the first, '" + name_of(1, 3) + "'")));
  }
}

TEST_F(SplitModel, NamesTheFileThatIsMissing) {
  write();
  std::filesystem::remove(path(2));
  EXPECT_THAT(refusal(), AllOf(HasSubstr("'" + name_of(2, 3) + "' is missing"), HasSubstr("3 files")));
}

TEST_F(SplitModel, RefusesAFileThatIsNotNamedAfterItsPlace) {
  write();
  std::filesystem::rename(path(1), folder_ / "model.gguf");
  EXPECT_THAT(refusal_of(folder_ / "model.gguf"), HasSubstr("must end in '-00001-of-00003.gguf'"));
}

TEST_F(SplitModel, RefusesFilesOfDifferentModels) {
  const std::size_t all = tiny_model().tensors.size();
  const auto refusal_with = [&](int place, int count, std::size_t tensors) {
    cut(3, 0);
    number(shards_[1], place, count, tensors);
    write();
    return refusal();
  };
  EXPECT_EQ(refusal_with(1, 3, all), "");
  for (const std::string& message :
       {refusal_with(2, 3, all), refusal_with(1, 4, all), refusal_with(1, 3, all + 1), refusal_with(0, 1, all)})
    EXPECT_THAT(message, AllOf(HasSubstr(name_of(2, 3)), HasSubstr("different models")));
}

TEST_F(SplitModel, RefusesATensorThatIsThereTwiceOrNotAtAll) {
  shards_[2].tensors.push_back(shards_[0].tensors.front());
  write();
  EXPECT_THAT(refusal(), AllOf(HasSubstr(name_of(3, 3)), HasSubstr("in an earlier file")));
  shards_[2].tensors.pop_back();
  shards_[2].tensors.pop_back();
  write();
  EXPECT_THAT(refusal(), HasSubstr("are announced"));
}

TEST_F(SplitModel, RefusesImpossiblePlaces) {
  const auto refusal_with = [&](const char* key, int value) {
    cut(3, 0);
    shards_[0].set(key, GgufWriter::typed(GgufType::i32, GgufWriter::raw(std::int32_t{value})));
    write();
    return refusal();
  };
  for (const int value : {-1, 3, 70'000}) EXPECT_THAT(refusal_with("split.no", value), HasSubstr("split.no"));
  for (const int value : {-1, 513, 70'000}) EXPECT_THAT(refusal_with("split.count", value), HasSubstr("split.count"));
  EXPECT_THAT(refusal_with("split.tensors.count", -1), HasSubstr("split.tensors.count"));
  cut(3, 0);
  shards_[0].erase("split.no");
  write();
  EXPECT_THAT(refusal(), AllOf(HasSubstr("split.no"), HasSubstr("is missing")));
}

TEST_F(SplitModel, DoesNotTrustAnyOfItsFiles) {
  write();
  for (const int damaged : {2, 3}) {
    const std::string bytes = shards_[static_cast<std::size_t>(damaged) - 1].file();
    for (std::size_t length = 0; length + 64 < bytes.size(); length += 512) {
      write(path(damaged), bytes.substr(0, length));
      ASSERT_THAT(refusal(), HasSubstr(name_of(damaged, 3))) << "cut at " << length;
    }
    write(path(damaged), bytes);
  }
  std::filesystem::remove(path(3));
  std::filesystem::create_directory(path(3));
  EXPECT_THAT(refusal(), AllOf(HasSubstr(name_of(3, 3)), HasSubstr("not a regular file")));
}

TEST_F(SplitModel, NamesTheFileOfADamagedTensor) {
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    for (GgufWriter::Tensor& tensor : shards_[i].tensors) {
      if (tensor.name != "blk.1.attn_norm.weight") continue;
      tensor.data.replace(0, 4, GgufWriter::raw(std::numeric_limits<float>::quiet_NaN()));
      write();
      EXPECT_THAT(refusal(), AllOf(HasSubstr(name_of(static_cast<int>(i) + 1, 3)), HasSubstr("not finite")));
      return;
    }
  }
  FAIL() << "the tiny model has norms";
}

TEST_F(SplitModel, ReadsAMergedModelThatStillSaysHowItWasSplit) {
  GgufWriter merged = tiny_model();
  number(merged, 0, 0, merged.tensors.size());
  const TemporaryFile file(merged.file());
  EXPECT_EQ(Model(file.path()).file().files().size(), 1u);
}

TEST_F(SplitModel, ShowsItsFiles) {
  write();
  const nlohmann::json info = model_info(path(1));
  ASSERT_EQ(info["files"].size(), 3u);
  std::int64_t bytes = 0, tensors = 0;
  for (const auto& file : info["files"]) {
    bytes += file["bytes"].get<std::int64_t>();
    tensors += file["tensors"].get<std::int64_t>();
  }
  EXPECT_EQ(bytes, info["file_bytes"]);
  EXPECT_EQ(tensors, std::ssize(tiny_model().tensors));
  EXPECT_THAT(model_info_text(info), AllOf(HasSubstr("first of 3 files"), HasSubstr(name_of(3, 3))));
}

}  // namespace
}  // namespace expertscope

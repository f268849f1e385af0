#include "profiler/cupti_names.h"

#include <cstring>

#include <gtest/gtest.h>

namespace expertscope {
namespace {

TEST(CuptiNames, AreDemangledForPeople) {
  EXPECT_EQ(demangled_name("_ZN11expertscope4cuda12gemv_kernelsEPf"), "expertscope::cuda::gemv_kernels(float*)");
  EXPECT_EQ(demangled_name("plain_c_kernel"), "plain_c_kernel");
}

TEST(CuptiNames, HaveAShortFormWithoutTypesAndArguments) {
  EXPECT_EQ(short_kernel_name("void foo::bar<int, 4>(int*, float)"), "bar");
  EXPECT_EQ(short_kernel_name("expertscope::cuda::(anonymous namespace)::gemv(float*)"), "gemv");
  EXPECT_EQ(short_kernel_name("void cutlass::Kernel2<cutlass::gemm<float, 8>>(cutlass::gemm<float, 8>::Params)"),
            "Kernel2");
  EXPECT_EQ(short_kernel_name("(anonymous namespace)::stamp(unsigned long*)"), "stamp");
  EXPECT_EQ(short_kernel_name("plain_c_kernel"), "plain_c_kernel");
  EXPECT_EQ(short_kernel_name(""), "");
}

TEST(CuptiNames, AreToldOnceEach) {
  CuptiNames names;
  const char* first = "_Z3foov";
  const auto ids = names.of(first);
  EXPECT_EQ(names.of(first).mangled, ids.mangled);
  const auto told = names.take_new();
  EXPECT_EQ(told.size(), 3u);  // foo(), foo, _Z3foov
  EXPECT_TRUE(names.take_new().empty());
  EXPECT_GT(names.of(nullptr).mangled, 0u);
}

TEST(CuptiNames, NoticeWhenAPointerStandsForAnotherName) {
  CuptiNames names;
  char place[16] = "_Z3foov";
  const auto foo = names.of(place).mangled;
  std::strcpy(place, "_Z3barv");
  EXPECT_NE(names.of(place).mangled, foo);
}

}  // namespace
}  // namespace expertscope

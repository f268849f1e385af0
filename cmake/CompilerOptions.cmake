# What every target is compiled with. Third-party code gets the code-generation flags (so that results do not depend on
# who compiled a template) but none of the warnings.
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release or RelWithDebInfo" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# The same instruction set and no fused multiply-add behind our back: equal commands give equal sessions on every machine.
add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-march=x86-64-v3> $<$<COMPILE_LANGUAGE:C,CXX>:-ffp-contract=off>)

set(ES_SANITIZE "" CACHE STRING "Sanitizers for all code, such as address,undefined or thread")
if(ES_SANITIZE)
  # GCC's flow-based warnings misfire on instrumented code; the plain builds keep them.
  add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${ES_SANITIZE}> -fno-omit-frame-pointer -fno-sanitize-recover=all
                      -Wno-maybe-uninitialized -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread)
  add_link_options(-fsanitize=${ES_SANITIZE})
endif()

find_program(ES_CCACHE ccache)
if(ES_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${ES_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${ES_CCACHE})
endif()

# Linked by every target of the project and by nothing else.
add_library(es_options INTERFACE)
target_include_directories(es_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(es_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Werror -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wextra-semi -Wfloat-conversion -Wformat=2>
  # GCC 12 reports std::string's operator+ as an overlapping copy (GCC bug 105651).
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>)
target_compile_definitions(es_options INTERFACE
  ES_VERSION="${PROJECT_VERSION}"
  $<$<NOT:$<CONFIG:Release>>:_GLIBCXX_ASSERTIONS>)

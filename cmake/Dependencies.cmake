# External libraries as targets. Every one is first looked for with find_package, so that vcpkg, Conan and distribution
# packages serve the same build; `./dev setup` installs what is missing on Debian. Their headers are system headers.
find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(hwy REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(SQLite3 REQUIRED)

# PCRE2 has a CMake package in vcpkg and Conan, and only a pkg-config file on Debian.
add_library(es_pcre2 INTERFACE)
find_package(PCRE2 QUIET CONFIG COMPONENTS 8BIT)
if(TARGET PCRE2::8BIT)
  target_link_libraries(es_pcre2 INTERFACE PCRE2::8BIT)
else()
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(PCRE2_8 REQUIRED IMPORTED_TARGET libpcre2-8)
  target_link_libraries(es_pcre2 INTERFACE PkgConfig::PCRE2_8)
endif()
target_compile_definitions(es_pcre2 INTERFACE PCRE2_CODE_UNIT_WIDTH=8)

# stb is headers only; the one source file that uses a header defines its implementation macro.
find_package(Stb QUIET)
find_path(ES_STB_INCLUDE_DIR stb_image_write.h HINTS ${Stb_INCLUDE_DIR} PATH_SUFFIXES stb REQUIRED)
add_library(es_stb INTERFACE)
target_include_directories(es_stb SYSTEM INTERFACE ${ES_STB_INCLUDE_DIR})

find_package(glfw3 REQUIRED)
find_package(OpenGL REQUIRED)
add_library(es_window_system INTERFACE)
target_link_libraries(es_window_system INTERFACE glfw OpenGL::GL)

include(ImGui)

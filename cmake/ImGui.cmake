# Dear ImGui (docking), ImPlot and Dear ImGui Test Engine, from the source folders that `./dev setup` puts into .deps/.
# es_imgui is what the program links. es_imgui_test is the same code with the test engine's hooks compiled in; only
# tests/gui links it, because the test engine's licence is free for open source projects but not for everyone who ships the program.
set(ES_IMGUI_ROOT ${CMAKE_SOURCE_DIR}/.deps/imgui_bundle CACHE PATH "Folder that holds imgui/, implot/ and imgui_test_engine/")
if(NOT EXISTS ${ES_IMGUI_ROOT}/imgui/imgui.h)
  message(FATAL_ERROR "Dear ImGui is not in ${ES_IMGUI_ROOT}. Run ./dev setup, or set ES_IMGUI_ROOT.")
endif()

function(es_add_imgui target)
  set(imgui ${ES_IMGUI_ROOT}/imgui)
  set(implot ${ES_IMGUI_ROOT}/implot)
  add_library(${target} STATIC
    ${imgui}/imgui.cpp ${imgui}/imgui_demo.cpp ${imgui}/imgui_draw.cpp ${imgui}/imgui_tables.cpp ${imgui}/imgui_widgets.cpp
    ${imgui}/imgui_stacklayout.cpp ${imgui}/misc/cpp/imgui_stdlib.cpp
    ${imgui}/backends/imgui_impl_glfw.cpp ${imgui}/backends/imgui_impl_opengl3.cpp
    ${implot}/implot.cpp ${implot}/implot_items.cpp ${ARGN})
  target_include_directories(${target} SYSTEM PUBLIC ${imgui} ${imgui}/backends ${imgui}/misc/cpp ${implot} ${ES_IMGUI_ROOT}/imgui_test_engine)
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR}/cmake/imgui)
  target_compile_definitions(${target} PUBLIC IMGUI_USER_CONFIG="expertscope_imgui_config.h")
  target_compile_options(${target} PRIVATE -w)
  target_link_libraries(${target} PUBLIC es_window_system ${CMAKE_DL_LIBS})
endfunction()

es_add_imgui(es_imgui)

function(es_add_imgui_test)
  file(GLOB engine_sources ${ES_IMGUI_ROOT}/imgui_test_engine/*.cpp)
  es_add_imgui(es_imgui_test ${engine_sources})
  target_compile_definitions(es_imgui_test PUBLIC ES_IMGUI_TEST_ENGINE)
  target_link_libraries(es_imgui_test PUBLIC Threads::Threads)
endfunction()

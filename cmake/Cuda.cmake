# CUDA is optional: ES_CUDA=AUTO takes it where a toolkit is found, ON insists, OFF never looks.
# Toolkits are looked for where the user says (CMAKE_CUDA_COMPILER, CUDACXX), on the PATH, in the usual place, and in the
# private environment that `./dev setup --cuda` makes.
set(ES_CUDA AUTO CACHE STRING "Build the CUDA parts: AUTO, ON or OFF")
set(ES_HAS_CUDA FALSE CACHE INTERNAL "Whether CUDA is built")

if(NOT ES_CUDA STREQUAL "OFF")
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    file(GLOB es_wheel_toolkits ${CMAKE_SOURCE_DIR}/.deps/cuda-venv/lib/python3*/site-packages/nvidia/cu13)
    find_program(ES_NVCC nvcc HINTS /usr/local/cuda/bin ${es_wheel_toolkits} PATH_SUFFIXES bin)
    if(ES_NVCC)
      set(CMAKE_CUDA_COMPILER ${ES_NVCC})
    endif()
  endif()
  if(CMAKE_CUDA_COMPILER OR DEFINED ENV{CUDACXX})
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      # 80 runs on 86 and 89 too; 90 keeps its PTX for what comes later.
      set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 90)
    endif()
    include(CheckLanguage)
    check_language(CUDA)
  endif()
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      # CMake 3.25 does not yet know how to ask nvcc for C++20.
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    find_package(CUDAToolkit REQUIRED)
    set(ES_HAS_CUDA TRUE CACHE INTERNAL "Whether CUDA is built")
  elseif(ES_CUDA STREQUAL "ON")
    message(FATAL_ERROR "ES_CUDA=ON, but no working CUDA compiler was found. Run ./dev setup --cuda, or set CMAKE_CUDA_COMPILER to your nvcc.")
  endif()
endif()
message(STATUS "CUDA: ${ES_HAS_CUDA}")

# Adds the folder's *.cu and *_with_cuda.cpp files, and leaves out its *_without_cuda.cpp files, when CUDA is built; the
# other way round when not.
# The CUDA files are a target of their own, so that C++ files compile alike in both kinds of build.
function(es_add_cuda_sources target folder)
  if(ES_HAS_CUDA)
    file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.cu)
    if(cuda_sources)
      add_library(${target}_cuda OBJECT ${cuda_sources})
      target_compile_options(${target}_cuda PRIVATE
        -Xcompiler=-Wall,-Wextra,-Werror,-march=x86-64-v3,-ffp-contract=off -Werror=all-warnings)
      target_link_libraries(${target}_cuda PRIVATE es_options CUDA::cudart_static)
      target_compile_definitions(${target}_cuda PRIVATE ES_CUDA_LIBRARY_DIR="${CUDAToolkit_LIBRARY_DIR}")
      target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_cuda>)
      target_link_libraries(${target} PUBLIC $<LINK_ONLY:CUDA::cudart_static>)
    endif()
    file(GLOB_RECURSE cxx_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*_with_cuda.cpp)
    if(cxx_sources)
      target_sources(${target} PRIVATE ${cxx_sources})
      target_include_directories(${target} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
    endif()
  else()
    file(GLOB_RECURSE substitutes CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*_without_cuda.cpp)
    if(substitutes)
      target_sources(${target} PRIVATE ${substitutes})
    endif()
  endif()
endfunction()

# CUPTI and NVTX: headers alone. The program finds CUPTI's library when it runs (profiler/cupti_library.cpp), so that it
# starts where there is none; the toolkit's folder is one of the places.
function(es_use_cupti target)
  if(ES_HAS_CUDA)
    find_path(ES_CUPTI_INCLUDE_DIR cupti.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${CUDAToolkit_TARGET_DIR}/extras/CUPTI/include REQUIRED)
    target_include_directories(${target} SYSTEM PRIVATE ${ES_CUPTI_INCLUDE_DIR})
    set_property(SOURCE ${CMAKE_SOURCE_DIR}/profiler/cupti_library.cpp APPEND PROPERTY
      COMPILE_DEFINITIONS ES_CUDA_LIBRARY_DIR="${CUDAToolkit_LIBRARY_DIR}")
    target_link_libraries(${target} PUBLIC $<LINK_ONLY:${CMAKE_DL_LIBS}>)
  endif()
endfunction()

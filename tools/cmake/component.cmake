# SPDX-License-Identifier: Apache-2.0
# The one way to declare a library of the project, and the warnings every file is compiled with.

add_library(project_warnings INTERFACE)
target_compile_options(project_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wold-style-cast -Wcast-qual -Wshadow
  -Wnon-virtual-dtor -Woverloaded-virtual -Wundef -Wvla -Wswitch-enum -Wimplicit-fallthrough
  -Wextra-semi -Wformat=2
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
  $<$<CXX_COMPILER_ID:GNU>:-Wlogical-op -Wduplicated-cond -Wduplicated-branches -Wuseless-cast
    -Wsuggest-override>)

if(WHERRY_SANITIZE)
  add_compile_options(-fsanitize=${WHERRY_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${WHERRY_SANITIZE})
endif()

# component(name HEADERS ... SOURCES ... USES ... PRIVATE_USES ...)
# Declares the static library of one folder. USES is the arrow of the architecture: what is not
# named there cannot be included, because its include path does not arrive here... except for our
# own folders, which share the repository root; tests/style/check_layers.py watches those.
function(component name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "HEADERS;SOURCES;USES;PRIVATE_USES")
  add_library(${name} STATIC ${arg_SOURCES})
  add_library(wherry::${name} ALIAS ${name})
  target_sources(${name} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}
    FILES ${arg_HEADERS})
  target_link_libraries(${name} PUBLIC ${arg_USES} PRIVATE ${arg_PRIVATE_USES} project_warnings)
endfunction()

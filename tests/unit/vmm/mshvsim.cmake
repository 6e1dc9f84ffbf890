# SPDX-License-Identifier: Apache-2.0
# The MSHV simulator, driven through its ioctls.
set(mshvsim_tests
  unit/main.cpp
  unit/vmm/mshvsim_client.cpp
  unit/vmm/mshvsim_memory_test.cpp
  unit/vmm/mshvsim_run_test.cpp
  unit/vmm/mshvsim_soft_test.cpp
  unit/vmm/mshvsim_synic_test.cpp)
add_executable(mshvsim_tests ${mshvsim_tests})
target_link_libraries(mshvsim_tests PRIVATE mshvsim vmm doctest::doctest fmt::fmt
  Threads::Threads project_warnings)
add_test(NAME unit.mshvsim COMMAND mshvsim_tests)
set_tests_properties(unit.mshvsim PROPERTIES
  FAIL_REGULAR_EXPRESSION "test cases: +0 " LABELS unit TIMEOUT 300)
if(TARGET wherry_soft)
  add_dependencies(mshvsim_tests wherry_soft) # opened at run time, from beside the program
  add_test(NAME unit.mshvsim.soft COMMAND mshvsim_tests)
  set_tests_properties(unit.mshvsim.soft PROPERTIES ENVIRONMENT MSHVSIM_TEST_ENGINE=soft
    FAIL_REGULAR_EXPRESSION "test cases: +0 " LABELS unit TIMEOUT 300)
endif()

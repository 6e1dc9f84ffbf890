set(dirtylog_tests
  device_write_log_test.cpp
  dirty_rate_test.cpp
  dirty_set_test.cpp
  dirty_tracker_test.cpp
  hypervisor_tracker_test.cpp
  userfault_tracker_test.cpp
  dirty_curve_test.cpp working_set_test.cpp)

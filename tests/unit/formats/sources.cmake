set(formats_tests
  error_message_test.cpp
  error_test.cpp
  page_digest_test.cpp
  page_range_test.cpp
  page_run_test.cpp
  units_test.cpp
  wire_frame_test.cpp)

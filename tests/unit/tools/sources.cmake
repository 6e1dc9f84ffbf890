set(tools_tests
  api_server_test.cpp
  guest_log_test.cpp
  json_test.cpp
  quantities_test.cpp
  registry_test.cpp)

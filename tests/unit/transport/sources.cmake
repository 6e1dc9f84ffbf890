# SPDX-License-Identifier: Apache-2.0
set(transport_tests
  alarm_test.cpp
  connection_test.cpp endpoint_test.cpp memory_stream_test.cpp pki_test.cpp plain_stream_test.cpp
  rate_limiter_test.cpp record_cutter_test.cpp sealing_rate_test.cpp support.cpp task_group_test.cpp task_test.cpp
  tls_context_test.cpp tls_stream_test.cpp tls_verify_test.cpp)

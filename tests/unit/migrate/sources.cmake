# SPDX-License-Identifier: Apache-2.0
set(migrate_tests
  aftermath_test.cpp cancel_gate_test.cpp control_link_test.cpp convergence_test.cpp device_writes_test.cpp each_step.cpp
  each_step_fails_test.cpp estimate_test.cpp estimation_test.cpp harness.cpp host_memory_test.cpp
  hostile_peer_test.cpp hybrid_convergence_test.cpp hybrid_each_step_fails_test.cpp
  link_measurement_test.cpp loopback_test.cpp memory_survey_test.cpp page_receiver_test.cpp
  page_supply_test.cpp phase_test.cpp plan_test.cpp policy_test.cpp postcopy_faults_test.cpp
  postcopy_loopback_test.cpp postcopy_order_test.cpp postcopy_pace_test.cpp probe_desk_test.cpp
  probe_test.cpp progress_test.cpp reception_test.cpp send_window_test.cpp shared_arbiter_test.cpp
  snapshot_test.cpp tls_loopback_test.cpp
  image/image_chain_test.cpp image/image_file_test.cpp image/image_keys_test.cpp
  image/image_options_test.cpp image/image_stream_test.cpp image/image_test.cpp
  image/lazy_memory_test.cpp image/page_map_parts_test.cpp image/page_map_test.cpp ownership/arbiter_races.cpp
  ownership/arbiter_test.cpp
  ownership/destination_owner_test.cpp ownership/etcd_arbiter_test.cpp
  ownership/file_arbiter_test.cpp ownership/file_journal_test.cpp ownership/journal_bytes_test.cpp
  ownership/message_table_test.cpp ownership/record_test.cpp ownership/source_owner_test.cpp
  ownership/source_person_test.cpp
  ../../support/etcd_server.cpp ../../support/image_bench.cpp ../../support/repaired_image.cpp
  ../../support/memory_disk.cpp ../../support/ownership_words.cpp
  ../../support/scripted_stream.cpp ../../support/test_machine.cpp)

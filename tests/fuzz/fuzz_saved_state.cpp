// SPDX-License-Identifier: Apache-2.0
#include "formats/proto/machine.pb.h"
#include "fuzz_target.hpp"
#include "vmm/saved_state.hpp"

using namespace wherry::vmm;
using wherry::formats::invariant;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = std::as_bytes(std::span{data, size});
    if (const auto state = decode_machine_state(input)) {
        invariant(state->vcpus.size() <= saved_vcpus_limit, "vcpus are within their limit");
        const auto encoded = encode(*state);
        invariant(encoded.has_value(), "an accepted state encodes");
        const auto again = decode_machine_state(*encoded);
        invariant(again.has_value(), "an encoded state decodes");
        invariant(again->vcpus == state->vcpus, "vcpus survive");
        invariant(again->devices == state->devices, "devices survive");
    }
    wherry::formats::proto::MachineConfig message;
    if (message.ParseFromArray(data, static_cast<int>(size))) {
        if (const auto config = from_proto(message)) {
            invariant(config->cpuid.size() <= saved_cpuid_limit, "cpuid is within its limit");
            wherry::formats::proto::MachineConfig back;
            to_proto(*config, back);
            const auto again = from_proto(back);
            invariant(again && again->cpuid == config->cpuid, "a configuration survives");
        }
    }
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "tests/mshv/bed.hpp"

#include <cstring>
#include <utility>

namespace wherry::conformance {

HypercallResult hypercall(
    const Descriptor& on,
    std::uint16_t code,
    std::span<std::byte> input,
    std::span<std::byte> output,
    std::uint16_t reps) {
    ioctls::RootHvcall call;
    call.code = code;
    call.reps = reps;
    call.input_size = static_cast<std::uint16_t>(input.size());
    call.output_size = static_cast<std::uint16_t>(output.size());
    call.input = address_of(input.data());
    call.output = output.empty() ? 0 : address_of(output.data());
    std::string outcome = control(on, ioctls::root_hvcall, &call);
    return {.outcome = std::move(outcome), .status = call.status, .reps = call.reps};
}

PropertyResult get_property(const Descriptor& on, std::uint32_t code) {
    hypercalls::GetProperty input;
    input.code = code;
    PropertyResult result{};
    result.call =
        hypercall(on, hypercalls::get_partition_property, bytes_of(input), bytes_of(result.value));
    return result;
}

PropertyResult get_property_ex(const Descriptor& on, std::uint32_t code) {
    hypercalls::GetPropertyEx input;
    input.code = code;
    std::vector<std::byte> output(hypercalls::max_property_ex_output);
    PropertyResult result{};
    result.call =
        hypercall(on, hypercalls::get_partition_property_ex, bytes_of(input), std::span{output});
    hypercalls::PropertyExBanks banks;
    std::memcpy(&banks, output.data(), sizeof(banks));
    result.value = banks.bank0;
    return result;
}

HypercallResult set_property(const Descriptor& on, std::uint32_t code, std::uint64_t value) {
    hypercalls::SetProperty input;
    input.code = code;
    input.value = value;
    return hypercall(on, hypercalls::set_partition_property, bytes_of(input));
}

RegisterResult get_register(const Descriptor& on, std::uint32_t name, std::uint32_t vp) {
    struct {
        hypercalls::RegistersHeader header;
        std::uint32_t name = 0;
        std::uint32_t unused = 0;
    } input;
    input.header.vp_index = vp;
    input.name = name;
    RegisterResult result{};
    // The tail of the structure is no part of the input: 16 bytes and one name.
    result.call = hypercall(
        on,
        hypercalls::get_vp_registers,
        bytes_of(input).first(sizeof(input.header) + sizeof(input.name)),
        bytes_of(result.value),
        1);
    return result;
}

HypercallResult set_registers(
    const Descriptor& on,
    std::span<const hypercalls::RegisterAssociation> registers,
    std::uint32_t vp) {
    hypercalls::RegistersHeader header;
    header.vp_index = vp;
    std::vector<std::byte> input(sizeof(header) + registers.size_bytes());
    std::memcpy(input.data(), &header, sizeof(header));
    std::memcpy(input.data() + sizeof(header), registers.data(), registers.size_bytes());
    return hypercall(
        on, hypercalls::set_vp_registers, input, {}, static_cast<std::uint16_t>(registers.size()));
}

HypercallResult
set_register(const Descriptor& on, std::uint32_t name, abi::RegisterValue value, std::uint32_t vp) {
    hypercalls::RegisterAssociation one;
    one.name = name;
    one.value = value;
    return set_registers(on, std::span{&one, 1}, vp);
}

bool offers_apic() {
    static const bool is_offered = [] {
        const auto device = open_device();
        const auto outcome = [&device](std::uint64_t flags) {
            ioctls::CreatePartitionV1 create{.flags = flags, .isolation = 0};
            return control_open(device.descriptor, ioctls::create_partition, &create).outcome;
        };
        return outcome(0x7) != "EIO" || outcome(0x4) != "ok";
    }();
    return is_offered;
}

std::uint64_t usual_flags() {
    return offers_apic() ? 0x7 : 0x4;
}

bool needs_apic(std::string_view test) {
    if (!offers_apic()) {
        skipped(test, "CREATE_PARTITION refuses local APICs with EIO");
    }
    return offers_apic();
}

Opened create_partition(const Descriptor& device) {
    ioctls::CreatePartition create;
    create.flags = usual_flags() | 0x8;
    create.disabled_features = {
        ~get_property(device, abi::properties::processor_features0).value,
        ~get_property(device, abi::properties::processor_features1).value};
    return control_open(device, ioctls::create_partition, &create);
}

Opened create_vp(const Descriptor& partition, std::uint32_t index) {
    ioctls::CreateVp create{.vp_index = index};
    return control_open(partition, ioctls::create_vp, &create);
}

std::string map_memory(
    const Descriptor& partition, const Mapping& memory, std::uint64_t gfn, std::uint8_t flags) {
    ioctls::MemoryRegion region;
    region.size = memory.size();
    region.guest_pfn = gfn;
    region.userspace_address = memory.address();
    region.flags = flags;
    return control(partition, ioctls::set_guest_memory, &region);
}

std::string unmap_memory(const Descriptor& partition, const Mapping& memory, std::uint64_t gfn) {
    return map_memory(partition, memory, gfn, ioctls::memory_flags::unmap);
}

PartitionBed::PartitionBed() {
    auto opened = open_device();
    REQUIRE(opened.outcome == "ok");
    device = std::move(opened.descriptor);
    auto created = create_partition(device);
    REQUIRE(created.outcome == "ok");
    partition = std::move(created.descriptor);
    // What a client may assign; 0 where this property is not known, then nothing is asked for.
    const auto assignable =
        get_property_ex(device, abi::properties::ex::assignable_synthetic_processor_features);
    const auto set = set_property(
        partition,
        abi::properties::synthetic_processor_features,
        assignable.value & 0x0020'0040'0640'0ffb);
    REQUIRE(set.outcome == "ok");
    REQUIRE(control(partition, ioctls::initialize_partition) == "ok");
}

VpBed::VpBed() {
    auto created = create_vp(partition, 0);
    REQUIRE(created.outcome == "ok");
    vp = std::move(created.descriptor);
}

} // namespace wherry::conformance

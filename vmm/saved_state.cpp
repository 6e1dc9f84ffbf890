// SPDX-License-Identifier: Apache-2.0
#include "vmm/saved_state.hpp"

#include "formats/proto/machine.pb.h"
#include "formats/proto/vcpu.pb.h"
#include "formats/wire_frame.hpp"

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/wire_format_lite.h>

namespace wherry::vmm {

namespace {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;
namespace proto = formats::proto;
using google::protobuf::internal::WireFormatLite;

/// Room for a vCPU at all its limits, and for a device's id and numbers beside its bytes.
constexpr formats::Bytes vcpu_message_limit = formats::operator""_KiB(256);
constexpr formats::Bytes device_message_limit = saved_device_limit + formats::operator""_KiB(1);
constexpr formats::Bytes clock_message_limit = formats::operator""_KiB(1);
constexpr formats::Bytes generation_id_limit = formats::operator""_KiB(1); // its length is checked

constexpr formats::Bytes memory_granule = formats::operator""_MiB(2);
constexpr formats::Bytes memory_limit = formats::operator""_GiB(1U << 16U);

bool is_device_id(std::string_view id) {
    const auto is_plain = [](char c) {
        return c > ' ' && c < '\x7f';
    };
    return !id.empty() && id.size() <= saved_device_id_limit && std::ranges::all_of(id, is_plain);
}

Status add_vcpu(MachineState& state, const proto::VcpuState& message) {
    const std::size_t due = state.vcpus.size();
    if (due == saved_vcpus_limit) {
        return fail(
            ErrorCode::protocol,
            fmt::format("vcpus has more entries than the limit of {}", saved_vcpus_limit));
    }
    auto vcpu = from_proto(message);
    if (!vcpu) {
        return std::unexpected{std::move(vcpu).error()};
    }
    if (vcpu->index != due) {
        return fail(
            ErrorCode::protocol,
            fmt::format("vcpus has number {} where {} is due", vcpu->index, due));
    }
    state.vcpus.push_back(*std::move(vcpu));
    return {};
}

Status add_device(MachineState& state, const proto::DeviceState& message) {
    if (state.devices.size() == saved_devices_limit) {
        return fail(
            ErrorCode::protocol,
            fmt::format("devices has more entries than the limit of {}", saved_devices_limit));
    }
    auto device = from_proto(message);
    if (!device) {
        return std::unexpected{std::move(device).error()};
    }
    if (std::ranges::find(state.devices, device->id, &DeviceState::id) != state.devices.end()) {
        return fail(
            ErrorCode::protocol, fmt::format("devices holds {} more than once", device->id));
    }
    state.devices.push_back(*std::move(device));
    return {};
}

/// One level of a Protobuf message, read field by field.
class FieldReader {
public:
    explicit FieldReader(std::span<const std::byte> bytes)
        : bytes_{bytes},
          array_{bytes.data(), static_cast<int>(bytes.size())},
          input_{&array_} {}

    /// Tag of the next field; 0 at the end or where the bytes make no sense.
    std::uint32_t tag() { return input_.ReadTag(); }
    bool is_at_end() { return input_.ConsumedEntireMessage(); }
    bool skip(std::uint32_t tag) { return WireFormatLite::SkipField(&input_, tag); }

    /// The field whose tag was just read, where it is no longer than `limit`.
    Result<std::span<const std::byte>> bytes(formats::Bytes limit, std::string_view field) {
        std::uint32_t length = 0;
        const bool has_length = input_.ReadVarint32(&length);
        const auto start = static_cast<std::size_t>(input_.CurrentPosition());
        if (!has_length || length > bytes_.size() - start) {
            return fail(ErrorCode::protocol, fmt::format("{} ends in the middle", field));
        }
        if (formats::Bytes{length} > limit) {
            return fail(
                ErrorCode::protocol,
                fmt::format("{} has an entry of {} bytes, over {}", field, length, limit.value()));
        }
        input_.Skip(static_cast<int>(length));
        return bytes_.subspan(start, length);
    }

    /// As bytes(), and a Message.
    template <typename Message>
    Result<Message> message(formats::Bytes limit, std::string_view field) {
        const auto content = bytes(limit, field);
        if (!content) {
            return fail(content.error());
        }
        Message message;
        if (!message.ParseFromArray(content->data(), static_cast<int>(content->size()))) {
            return fail(ErrorCode::protocol, fmt::format("{} has a damaged entry", field));
        }
        return message;
    }

private:
    std::span<const std::byte> bytes_;
    google::protobuf::io::ArrayInputStream array_;
    google::protobuf::io::CodedInputStream input_;
};

constexpr std::uint32_t message_tag(int field) {
    return WireFormatLite::MakeTag(field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
}

template <typename Message>
Status read_into(
    MachineState& state,
    Status (*add)(MachineState&, const Message&),
    FieldReader& reader,
    formats::Bytes limit,
    std::string_view field) {
    auto message = reader.message<Message>(limit, field);
    if (!message) {
        return std::unexpected{std::move(message).error()};
    }
    return add(state, *message);
}

Status take_clock(MachineState& state, const proto::PartitionClock& message) {
    state.clock = from_proto(message);
    return {};
}

Status take_generation_id(MachineState& state, std::span<const std::byte> bytes) {
    GenerationId id;
    if (bytes.size() != id.bytes.size()) {
        return fail(
            ErrorCode::protocol,
            fmt::format("generation_id has {} bytes, not {}", bytes.size(), id.bytes.size()));
    }
    std::ranges::copy(bytes, id.bytes.begin());
    state.generation_id = id;
    return {};
}

Status read_generation_id(MachineState& state, FieldReader& reader) {
    const auto bytes = reader.bytes(generation_id_limit, "generation_id");
    return bytes ? take_generation_id(state, *bytes) : fail(bytes.error());
}

/// Every field of `reader` into `state`; says whether there was a clock. Unknown fields are those
/// of a newer version and are left out.
Result<bool> read_fields(MachineState& state, FieldReader& reader) {
    using Message = proto::MachineState;
    bool has_clock = false;
    for (std::uint32_t tag = reader.tag(); tag != 0; tag = reader.tag()) {
        Status status;
        if (tag == message_tag(Message::kVcpusFieldNumber)) {
            status = read_into(state, add_vcpu, reader, vcpu_message_limit, "vcpus");
        } else if (tag == message_tag(Message::kDevicesFieldNumber)) {
            status = read_into(state, add_device, reader, device_message_limit, "devices");
        } else if (tag == message_tag(Message::kClockFieldNumber)) {
            status = read_into(state, take_clock, reader, clock_message_limit, "clock");
            has_clock = true;
        } else if (tag == message_tag(Message::kGenerationIdFieldNumber)) {
            status = read_generation_id(state, reader);
        } else if (!reader.skip(tag)) {
            status = fail(ErrorCode::protocol, "a field is damaged");
        }
        if (!status) {
            return std::unexpected{std::move(status).error()};
        }
    }
    if (!reader.is_at_end()) {
        return fail(ErrorCode::protocol, "what follows the last field makes no sense");
    }
    return has_clock;
}

} // namespace

void to_proto(const CpuidEntry& entry, proto::CpuidEntry& into) {
    into.set_leaf(entry.leaf);
    into.set_subleaf(entry.subleaf);
    into.set_subleaf_is_significant(entry.subleaf_is_significant);
    into.set_eax(entry.eax);
    into.set_ebx(entry.ebx);
    into.set_ecx(entry.ecx);
    into.set_edx(entry.edx);
}

CpuidEntry from_proto(const proto::CpuidEntry& message) {
    return CpuidEntry{
        .leaf = message.leaf(),
        .subleaf = message.subleaf(),
        .subleaf_is_significant = message.subleaf_is_significant(),
        .eax = message.eax(),
        .ebx = message.ebx(),
        .ecx = message.ecx(),
        .edx = message.edx()};
}

void to_proto(const MachineConfig& config, proto::MachineConfig& into) {
    into.Clear();
    into.set_memory_bytes(config.memory.value());
    into.set_vcpus(config.vcpus);
    for (const CpuidEntry& entry : config.cpuid) {
        to_proto(entry, *into.add_cpuid());
    }
}

Result<MachineConfig> from_proto(const proto::MachineConfig& message) {
    MachineConfig config{
        .memory = formats::Bytes{message.memory_bytes()}, .vcpus = message.vcpus(), .cpuid = {}};
    const auto refuse = [](std::string text) {
        return fail(ErrorCode::protocol, "machine configuration: " + std::move(text));
    };
    if (config.memory == formats::Bytes{0} || config.memory > memory_limit ||
        config.memory % memory_granule != formats::Bytes{0}) {
        return refuse(fmt::format(
            "memory_bytes is {}, not a multiple of 2 MiB up to 64 TiB", config.memory.value()));
    }
    if (config.vcpus == 0 || config.vcpus > saved_vcpus_limit) {
        return refuse(fmt::format("vcpus is {}, not 1 to {}", config.vcpus, saved_vcpus_limit));
    }
    if (static_cast<std::size_t>(message.cpuid_size()) > saved_cpuid_limit) {
        return refuse(fmt::format(
            "cpuid has {} entries, more than the limit of {}",
            message.cpuid_size(),
            saved_cpuid_limit));
    }
    config.cpuid.reserve(static_cast<std::size_t>(message.cpuid_size()));
    for (const proto::CpuidEntry& entry : message.cpuid()) {
        config.cpuid.push_back(from_proto(entry));
    }
    return config;
}

void to_proto(const DeviceState& state, proto::DeviceState& into) {
    into.set_id(state.id);
    into.set_version(state.version);
    into.set_state(state.bytes.data(), state.bytes.size());
}

Result<DeviceState> from_proto(const proto::DeviceState& message) {
    if (!is_device_id(message.id())) {
        return fail(
            ErrorCode::protocol, "the id of a device is empty, too long or holds odd characters");
    }
    const auto bytes = std::as_bytes(std::span{message.state()});
    if (bytes.size() > saved_device_limit.value()) {
        return fail(
            ErrorCode::protocol,
            fmt::format(
                "the state of {} has {} bytes, more than the limit of {}",
                message.id(),
                bytes.size(),
                saved_device_limit.value()));
    }
    return DeviceState{
        .id = message.id(),
        .version = message.version(),
        .bytes = std::vector<std::byte>{bytes.begin(), bytes.end()}};
}

void to_proto(const PartitionClock& clock, proto::PartitionClock& into) {
    into.set_reference_time_ns(clock.reference_time.count());
    into.set_host_real_time_ns(clock.host_real_time.count());
}

PartitionClock from_proto(const proto::PartitionClock& message) {
    return PartitionClock{
        .reference_time = std::chrono::nanoseconds{message.reference_time_ns()},
        .host_real_time = std::chrono::nanoseconds{message.host_real_time_ns()}};
}

void to_proto(const MachineState& state, proto::MachineState& into) {
    into.Clear();
    for (const VcpuState& vcpu : state.vcpus) {
        to_proto(vcpu, *into.add_vcpus());
    }
    for (const DeviceState& device : state.devices) {
        to_proto(device, *into.add_devices());
    }
    to_proto(state.clock, *into.mutable_clock());
    if (const auto& id = state.generation_id) {
        into.set_generation_id(id->bytes.data(), id->bytes.size());
    }
}

Result<MachineState> from_proto(const proto::MachineState& message) {
    MachineState state;
    Status status;
    for (int i = 0; status && i < message.vcpus_size(); ++i) {
        status = add_vcpu(state, message.vcpus(i));
    }
    for (int i = 0; status && i < message.devices_size(); ++i) {
        status = add_device(state, message.devices(i));
    }
    if (status && !message.has_clock()) {
        status = fail(ErrorCode::protocol, "clock is missing");
    }
    if (status && message.has_generation_id()) {
        status = take_generation_id(state, std::as_bytes(std::span{message.generation_id()}));
    }
    if (!status) {
        return fail(std::move(status).error().during("machine state"));
    }
    state.clock = from_proto(message.clock());
    return state;
}

Result<std::vector<std::byte>> encode(const MachineState& state) {
    proto::MachineState message;
    to_proto(state, message);
    const formats::Bytes size{message.ByteSizeLong()};
    const formats::Bytes limit = formats::payload_limit(formats::FrameType::machine_state);
    if (size > limit) {
        return fail(
            ErrorCode::unsupported,
            fmt::format(
                "the machine state has {} bytes, more than the limit of {}",
                size.value(),
                limit.value()));
    }
    std::vector<std::byte> bytes(size.value());
    formats::invariant(
        message.SerializeToArray(bytes.data(), static_cast<int>(bytes.size())),
        "a machine state that was measured serialises");
    return bytes;
}

// Reads the outermost level by hand, one entry at a time: a message of many empty entries would
// otherwise grow to thirty times its size before any limit could be checked.
Result<MachineState> decode_machine_state(std::span<const std::byte> bytes) {
    if (formats::Bytes{bytes.size()} > formats::payload_limit(formats::FrameType::machine_state)) {
        return fail(ErrorCode::protocol, fmt::format("a machine state of {} bytes", bytes.size()));
    }
    MachineState state;
    FieldReader reader{bytes};
    auto has_clock = read_fields(state, reader);
    if (has_clock && !*has_clock) {
        has_clock = fail(ErrorCode::protocol, "clock is missing");
    }
    if (!has_clock) {
        return fail(std::move(has_clock).error().during("machine state"));
    }
    return state;
}

} // namespace wherry::vmm

// SPDX-License-Identifier: Apache-2.0
#include "mshvsim_client.hpp"

#include <array>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <sys/mman.h>

namespace mshvsim_test {

namespace hypercalls = abi::hypercalls;
namespace ioctls = abi::ioctls;
namespace registers = abi::registers;

HostMemory::HostMemory(std::size_t pages) : size_{pages * abi::page_size} {
    void* const at = ::mmap(
        nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(at != MAP_FAILED);
    start_ = static_cast<std::byte*>(at);
}

HostMemory::~HostMemory() {
    ::munmap(start_, size_);
}

void HostMemory::put(std::size_t offset, std::initializer_list<int> values) const {
    for (const int value : values) {
        start_[offset++] = static_cast<std::byte>(value);
    }
}

std::size_t HostMemory::resident_pages() const {
    std::vector<unsigned char> present(size_ / abi::page_size);
    REQUIRE(::mincore(start_, size_, present.data()) == 0);
    std::size_t count = 0;
    for (const auto page : present) {
        count += page & 1U;
    }
    return count;
}

std::unique_ptr<Client> Client::open(
    std::string_view test,
    Personality personality,
    std::optional<EngineChoice> engine,
    std::uint64_t synthetic_features) {
    const char* const usual = std::getenv("MSHVSIM_TEST_ENGINE");
    const bool is_soft = usual != nullptr && std::string_view{usual} == "soft";
    auto calls = wherry::vmm::mshvsim::open_simulator(
        {.personality = personality,
         .engine = engine.value_or(is_soft ? EngineChoice::soft : EngineChoice::automatic)});
    if (!calls) {
        fmt::print("SKIPPED: {}: {}\n", test, calls.error().text());
        return nullptr;
    }
    return std::make_unique<Client>(std::move(*calls), synthetic_features);
}

Client::Client(std::unique_ptr<wherry::vmm::mshv::Syscalls> calls, std::uint64_t synthetic_features)
    : calls_{std::move(calls)} {
    device = calls_->open_device();
    REQUIRE(device >= 0);
    ioctls::CreatePartition create{.flags = 0xf};
    partition = calls_->ioctl(device, ioctls::create_partition, &create);
    if (partition == -EIO) { // no local APICs
        create.flags = 0xc;
        partition = calls_->ioctl(device, ioctls::create_partition, &create);
    }
    REQUIRE(partition >= 0);
    const auto offered =
        set_property(abi::properties::synthetic_processor_features, synthetic_features);
    REQUIRE(offered.status == 0);
    REQUIRE(calls_->ioctl(partition, ioctls::initialize_partition, nullptr) == 0);
    ioctls::CreateVp first{0};
    vp = calls_->ioctl(partition, ioctls::create_vp, &first);
    REQUIRE(vp >= 0);
    int error = 0;
    page = static_cast<abi::RegisterPage*>(calls_->map(vp, abi::page_size, 0, error));
    REQUIRE(page != nullptr);
}

Client::~Client() {
    calls_->unmap(page, abi::page_size);
    for (const int descriptor : {vp, partition, device}) {
        calls_->close(descriptor);
    }
}

Client::Answer Client::hypercall(
    int descriptor,
    std::uint16_t code,
    std::uint16_t reps,
    std::span<const std::byte> input,
    std::span<std::byte> output) {
    ioctls::RootHvcall call{
        .code = code,
        .reps = reps,
        .input_size = static_cast<std::uint16_t>(input.size()),
        .output_size = static_cast<std::uint16_t>(output.size())};
    call.input = std::bit_cast<std::uint64_t>(input.data());
    call.output = std::bit_cast<std::uint64_t>(output.data());
    const int error = calls_->ioctl(descriptor, ioctls::root_hvcall, &call);
    return {call.status, call.reps, error};
}

Client::Answer Client::set_property(std::uint32_t code, std::uint64_t value) {
    const hypercalls::SetProperty input{.code = code, .value = value};
    return hypercall(partition, hypercalls::set_partition_property, 0, bytes(input));
}

std::uint64_t Client::property(std::uint32_t code) {
    const hypercalls::GetProperty input{.code = code};
    std::uint64_t value = 0;
    const auto answer =
        hypercall(partition, hypercalls::get_partition_property, 0, bytes(input), room(value));
    REQUIRE(answer.status == 0);
    return value;
}

Client::Answer
Client::set(std::initializer_list<std::pair<std::uint32_t, abi::RegisterValue>> values) {
    struct {
        hypercalls::RegistersHeader header;
        std::array<hypercalls::RegisterAssociation, hypercalls::max_registers_written> list;
    } input;
    std::uint16_t count = 0;
    for (const auto& [name, value] : values) {
        input.list[count++] = {.name = name, .value = value};
    }
    return hypercall(
        vp,
        hypercalls::set_vp_registers,
        count,
        bytes(input).first(sizeof(input.header) + count * sizeof(input.list.front())));
}

abi::RegisterValue Client::get(std::uint32_t name) {
    struct {
        hypercalls::RegistersHeader header;
        std::uint32_t name;
    } input{.header = {}, .name = name};
    abi::RegisterValue value;
    const auto answer =
        hypercall(vp, hypercalls::get_vp_registers, 1, bytes(input).first(20), room(value));
    REQUIRE(answer.status == 0);
    return value;
}

int Client::map(const HostMemory& memory, std::uint64_t gfn, std::uint8_t flags) {
    ioctls::MemoryRegion region{
        .size = memory.size(),
        .guest_pfn = gfn,
        .userspace_address = std::bit_cast<std::uint64_t>(memory.at()),
        .flags = flags};
    return calls_->ioctl(partition, ioctls::set_guest_memory, &region);
}

int Client::unmap(const HostMemory& memory, std::uint64_t gfn) {
    return map(memory, gfn, ioctls::memory_flags::unmap);
}

int Client::run(abi::messages::Message& message) {
    return calls_->ioctl(vp, ioctls::run_vp, &message);
}

void Client::start_at(std::uint16_t ip) {
    auto cs = abi::read_as<abi::SegmentValue>(get(registers::cs));
    cs.base = 0;
    cs.selector = 0;
    const auto answer = set(
        {{registers::cs, abi::value_of(cs)},
         {registers::rip, {ip, 0}},
         {registers::rflags, {2, 0}}});
    REQUIRE(answer.status == 0);
}

std::vector<bool>
Client::access(std::uint8_t type, std::uint8_t op, std::uint64_t gfn, std::uint64_t n) {
    std::vector<std::uint8_t> bitmap((n + 7) / 8);
    ioctls::GpapAccessBitmap wanted{
        .access_type = type, .access_op = op, .page_count = n, .first_gfn = gfn};
    wanted.bitmap = std::bit_cast<std::uint64_t>(bitmap.data());
    REQUIRE(calls_->ioctl(partition, ioctls::get_gpap_access_bitmap, &wanted) == 0);
    std::vector<bool> pages;
    for (std::uint64_t i = 0; i < n; ++i) {
        pages.push_back((bitmap[i / 8] >> i % 8 & 1U) != 0);
    }
    return pages;
}

} // namespace mshvsim_test

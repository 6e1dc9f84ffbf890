// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/syscalls.hpp"
#include "vmm/mshvsim/partition.hpp"
#include "vmm/mshvsim/simulator.hpp"
#include "vmm/mshvsim/trace.hpp"

#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>

namespace wherry::vmm::mshvsim {

/// The device, and all descriptors of this process that belong to it. Thread-safe.
class Device final : public mshv::Syscalls {
public:
    Device(SimulatorOptions options, EngineCapabilities host, std::unique_ptr<Trace> trace);

    int open_device() override { return open_device(true); }
    int ioctl(int descriptor, std::uint64_t request, void* argument) override;
    void*
    map(int descriptor, std::size_t length, std::uint64_t offset, int& error) noexcept override;
    void unmap(void* at, std::size_t length) noexcept override;
    void close(int descriptor) noexcept override;

    // For programs whose own system calls come here.
    int open_device(bool close_on_exec);
    [[nodiscard]] bool has(int descriptor);
    /// `copy` has become another name of `descriptor`.
    void duplicated(int descriptor, int copy);
    /// The number was closed, or is about to be.
    void forget(int descriptor) noexcept;
    void forget_range(unsigned first, unsigned last) noexcept;

private:
    /// What a descriptor stands for: the device, a partition, or one of its VPs.
    struct Node {
        std::shared_ptr<Partition> partition; ///< with the other descriptors of the partition
        Vp* vp = nullptr;
    };
    std::optional<Node> node(int descriptor);
    int add(int descriptor, Node node);
    int dispatch(const Node& node, std::uint64_t request, std::uint64_t argument);
    int create_partition(std::uint64_t argument);
    int create_vp(const Node& node, std::uint64_t argument);

    SimulatorOptions options_;
    EngineCapabilities host_;
    std::unique_ptr<Trace> trace_;
    std::shared_mutex lock_;
    std::map<int, Node> nodes_;
    std::atomic<std::uint64_t> next_partition_ = 2; // 1 is the root's
};

/// Like open_simulator(), with the methods above.
formats::Result<std::unique_ptr<Device>> make_device(const SimulatorOptions& options);

} // namespace wherry::vmm::mshvsim

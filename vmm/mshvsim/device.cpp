// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/device.hpp"

#include <bit>
#include <cerrno>
#include <iterator>
#include <mutex>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace wherry::vmm::mshvsim {

using formats::fail;
using formats::Result;

namespace {
namespace ioctls = mshv::abi::ioctls;
constexpr std::uint64_t own_partition = ~std::uint64_t{0};
constexpr std::size_t most_mapped = std::size_t{1} << 20U; // Linux has no limit
} // namespace

Result<std::unique_ptr<mshv::Syscalls>> open_simulator(const SimulatorOptions& options) {
    auto device = make_device(options);
    if (!device) {
        return fail(std::move(device.error()));
    }
    return std::unique_ptr<mshv::Syscalls>{std::move(*device)};
}

Result<std::unique_ptr<Device>> make_device(const SimulatorOptions& options) {
    const auto engine = open_engine(options.engine);
    if (!engine) {
        return fail(engine.error());
    }
    std::unique_ptr<Trace> trace;
    if (!options.trace_file.empty()) {
        auto opened = Trace::open(options.trace_file);
        if (!opened) {
            return fail(std::move(opened.error()));
        }
        trace = std::move(*opened);
    }
    return std::make_unique<Device>(options, (*engine)->capabilities(), std::move(trace));
}

Device::Device(SimulatorOptions options, EngineCapabilities host, std::unique_ptr<Trace> trace)
    : options_{std::move(options)},
      host_{std::move(host)},
      trace_{std::move(trace)} {}

std::optional<Device::Node> Device::node(int descriptor) {
    const std::shared_lock held{lock_};
    const auto found = nodes_.find(descriptor);
    return found != nodes_.end() ? std::optional{found->second} : std::nullopt;
}

int Device::add(int descriptor, Node node) {
    if (descriptor < 0) {
        return -errno;
    }
    const std::scoped_lock held{lock_};
    std::swap(nodes_[descriptor], node); // one that was forgotten goes without the lock
    return descriptor;
}

int Device::open_device(bool close_on_exec) {
    const int opened =
        add(::memfd_create("mshv", close_on_exec ? static_cast<unsigned>(MFD_CLOEXEC) : 0U), {});
    if (trace_ != nullptr) {
        trace_->opened(opened);
    }
    return opened;
}

bool Device::has(int descriptor) {
    return node(descriptor).has_value();
}

void Device::duplicated(int descriptor, int copy) {
    if (auto original = node(descriptor)) {
        add(copy, std::move(*original));
    }
}

void Device::forget(int descriptor) noexcept {
    Node last; // destroyed without the lock: it may be a whole partition
    const std::scoped_lock held{lock_};
    const auto found = nodes_.find(descriptor);
    if (found != nodes_.end()) {
        std::swap(last, found->second);
        nodes_.erase(found);
    }
}

void Device::forget_range(unsigned first, unsigned last) noexcept {
    std::map<int, Node> gone; // as above
    const std::scoped_lock held{lock_};
    for (auto at = nodes_.begin(); at != nodes_.end();) {
        const auto next = std::next(at);
        const auto number = static_cast<unsigned>(at->first);
        if (number >= first && number <= last) {
            gone.insert(nodes_.extract(at));
        }
        at = next;
    }
}

void Device::close(int descriptor) noexcept {
    forget(descriptor);
    ::close(descriptor);
}

int Device::ioctl(int descriptor, std::uint64_t request, void* argument) {
    const auto target = node(descriptor);
    if (!target) {
        return -EBADF;
    }
    const auto number = request & 0xffffffffU;
    const auto address = std::bit_cast<std::uint64_t>(argument);
    const int result = dispatch(*target, number, address);
    if (trace_ != nullptr) {
        trace_->ioctl(
            {.descriptor = descriptor,
             .partition = target->partition ? target->partition->hypervisor().partition_id : 0,
             .vp = target->vp != nullptr ? std::optional{target->vp->index()} : std::nullopt,
             .request = number,
             .argument = address,
             .result = result});
    }
    return result;
}

int Device::dispatch(const Node& node, std::uint64_t request, std::uint64_t argument) {
    const bool is_hypercall = request == ioctls::root_hvcall;
    if (node.vp != nullptr) {
        if (!is_hypercall) {
            return node.vp->ioctl(request, argument);
        }
        const std::scoped_lock held{node.vp->driver_lock()};
        return node.partition->hypercall(argument, HypercallSource::vp);
    }
    if (node.partition != nullptr) {
        if (request == ioctls::create_vp) {
            return create_vp(node, argument);
        }
        return is_hypercall ? node.partition->hypercall(argument, HypercallSource::partition)
                            : node.partition->ioctl(request, argument);
    }
    if (request == ioctls::create_partition) {
        return create_partition(argument);
    }
    if (!is_hypercall) {
        return -ENOTTY;
    }
    return root_hypercall(
        argument, HypercallSource::device, own_partition, [this](Hypercall& call) {
            return execute_on_host(host_, call);
        });
}

int Device::create_partition(std::uint64_t argument) {
    std::shared_ptr<Partition> made;
    const int error = Partition::create(options_, next_partition_++, argument, made);
    if (error != 0) {
        return error;
    }
    return add(::memfd_create("mshv_partition", MFD_CLOEXEC), {.partition = std::move(made)});
}

int Device::create_vp(const Node& node, std::uint64_t argument) {
    Vp* made = nullptr;
    if (const int error = node.partition->create_vp(argument, made); error != 0) {
        return error;
    }
    const int descriptor = ::fcntl(made->pages(), F_DUPFD_CLOEXEC, 0);
    return add(descriptor, {.partition = node.partition, .vp = made});
}

void* Device::map(int descriptor, std::size_t length, std::uint64_t offset, int& error) noexcept {
    const auto target = node(descriptor);
    error = !target                                                            ? EBADF
            : target->vp == nullptr || offset == ioctls::vp_mapping::ghcb_page ? ENODEV
            : offset > ioctls::vp_mapping::ghcb_page || offset % mshv::abi::page_size != 0 ||
                    length == 0 || length > most_mapped
                ? EINVAL
                : 0;
    if (error != 0) {
        return nullptr;
    }
    // Any length is taken; what lies beyond the page is the page again.
    const std::size_t page = mshv::abi::page_size;
    void* const at = ::mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool is_mapped = at != MAP_FAILED;
    for (std::size_t done = 0; is_mapped && done < length; done += page) {
        is_mapped = ::mmap(
                        static_cast<std::byte*>(at) + done,
                        page,
                        PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_FIXED,
                        descriptor,
                        static_cast<off_t>(offset)) != MAP_FAILED;
    }
    if (is_mapped) {
        return at;
    }
    error = errno;
    if (at != MAP_FAILED) {
        ::munmap(at, length);
    }
    return nullptr;
}

void Device::unmap(void* at, std::size_t length) noexcept {
    ::munmap(at, length);
}

} // namespace wherry::vmm::mshvsim

// SPDX-License-Identifier: Apache-2.0
// What every device's descriptors do: the kernel sees to it, a simulator has to.
#include "tests/mshv/bed.hpp"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

// What a call with flags that the compiler does not know becomes under _FORTIFY_SOURCE.
extern "C" {
int __open_2(const char* path, int flags);
int __open64_2(const char* path, int flags);
int __openat_2(int folder, const char* path, int flags);
int __openat64_2(int folder, const char* path, int flags);
}

using namespace wherry::conformance;

namespace {

/// Does it make partitions?
bool is_device(int number) {
    ioctls::CreatePartitionV1 create{.flags = usual_flags(), .isolation = 0};
    const Descriptor made{::ioctl(number, ioctls::create_partition, &create)};
    return made.is_open();
}

/// Does it know VP 0's registers?
bool is_vp(int number) {
    Descriptor borrowed{number};
    const bool knows = get_register(borrowed, abi::registers::rip).call.outcome == "ok";
    [[maybe_unused]] const int still_open = borrowed.release();
    return knows;
}

/// Runs it in a child of fork and tells what it returned.
template <typename Body>
int in_child(const Body& body) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(30); // a child that hangs is a failure, not a hang of the suite
        ::_exit(body());
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

constexpr int read_write = O_RDWR | O_CLOEXEC;

} // namespace

TEST_SUITE("mshv.descriptors") {
    TEST_CASE("every way to open the device opens it") {
        const std::string path = device_path();
        for (const int number :
             {::open(path.c_str(), read_write),
              ::open64(path.c_str(), read_write),
              ::openat(AT_FDCWD, path.c_str(), read_write),
              ::openat64(AT_FDCWD, path.c_str(), read_write),
              ::__open_2(path.c_str(), read_write),
              ::__open64_2(path.c_str(), read_write),
              ::__openat_2(AT_FDCWD, path.c_str(), read_write),
              ::__openat64_2(AT_FDCWD, path.c_str(), read_write)}) {
            const Descriptor device{number};
            CAPTURE(number);
            REQUIRE(device.is_open());
            CHECK(closes_on_exec(device));
            CHECK(is_device(device.get()));
        }
        const Descriptor kept{::open(path.c_str(), O_RDWR)};
        CHECK_FALSE(closes_on_exec(kept));
    }

    TEST_CASE("copies of a descriptor are as good as it, and outlive it") {
        const std::pair<const char*, int (*)(int)> ways[] = {
            {"dup",
             [](int number) {
                 return ::dup(number);
             }},
            {"dup2",
             [](int number) {
                 return ::dup2(number, 700);
             }},
            {"dup3",
             [](int number) {
                 return ::dup3(number, 700, O_CLOEXEC);
             }},
            {"F_DUPFD",
             [](int number) {
                 return ::fcntl(number, F_DUPFD, 600);
             }},
            {"F_DUPFD_CLOEXEC",
             [](int number) {
                 return ::fcntl(number, F_DUPFD_CLOEXEC, 600);
             }},
            {"fcntl64", [](int number) {
                 return ::fcntl64(number, F_DUPFD, 600);
             }}};
        for (const auto& [name, copy] : ways) {
            CAPTURE(name);
            VpBed bed;
            const Descriptor device{copy(bed.device.get())};
            bed.device.close();
            CHECK(is_device(device.get()));
            const Descriptor vp{::dup(bed.vp.get())};
            bed.vp.close();
            bed.partition.close();
            CHECK(is_vp(vp.get()));
        }
    }

    TEST_CASE("a copy onto a descriptor replaces what that was") {
        VpBed bed;
        REQUIRE(::dup2(bed.vp.get(), bed.device.get()) == bed.device.get());
        CHECK(is_vp(bed.device.get()));
        CHECK_FALSE(is_device(bed.device.get()));
        const Descriptor null{::open("/dev/null", read_write)};
        REQUIRE(::dup3(null.get(), bed.vp.get(), O_CLOEXEC) == bed.vp.get());
        CHECK(control(bed.vp, ioctls::run_vp) == "ENOTTY");
        CHECK(::dup2(bed.device.get(), bed.device.get()) == bed.device.get());
        CHECK(is_vp(bed.device.get()));
    }

    TEST_CASE("a number is nothing once it is closed, and then what is opened next") {
        const auto same_number_again = [](int number) {
            errno = 0;
            CHECK_FALSE(is_device(number));
            CHECK(errno == EBADF);
            const Descriptor null{::open("/dev/null", read_write)};
            const bool is_there = null.get() == number;
            const Descriptor there{is_there ? -1 : ::dup2(null.get(), number)};
            REQUIRE((is_there || there.get() == number));
            errno = 0;
            CHECK_FALSE(is_device(number));
            CHECK(errno == ENOTTY);
        };
        const int closed = ::open(device_path().c_str(), read_write);
        CHECK(::close(closed) == 0);
        same_number_again(closed);
        const int in_range = ::fcntl(
            Descriptor{::open(device_path().c_str(), read_write)}.get(), F_DUPFD_CLOEXEC, 800);
        REQUIRE(in_range >= 800);
        CHECK(::close_range(800, ~0U, CLOSE_RANGE_CLOEXEC) == 0); // marks, does not close
        CHECK(is_device(in_range));
        CHECK(::close_range(800, ~0U, 0) == 0);
        same_number_again(in_range);
    }

    TEST_CASE("both ways to map a page map the same one") {
        const VpBed bed;
        for (const auto map : {&::mmap, &::mmap64}) {
            void* const at =
                map(nullptr, abi::page_size, PROT_READ | PROT_WRITE, MAP_SHARED, bed.vp.get(), 0);
            REQUIRE(at != MAP_FAILED);
            CHECK(static_cast<const abi::RegisterPage*>(at)->is_valid == 1);
            CHECK(set_register(bed.vp, abi::registers::rbx, {.low = 77}).outcome == "ok");
            CHECK(static_cast<const abi::RegisterPage*>(at)->general[3] == 77);
            ::munmap(at, abi::page_size);
        }
    }

    TEST_CASE("a child of fork closes what it inherited, and the parent's partition goes on") {
        VpBed bed;
        Descriptor event{::eventfd(0, EFD_CLOEXEC)};
        ioctls::Irqfd irqfd{.fd = event.get(), .gsi = 30};
        if (offers_apic()) {
            REQUIRE(control(bed.partition, ioctls::irqfd, &irqfd) == "ok");
        }
        const int ended = in_child([&] {
            bed.vp.close();
            bed.partition.close();
            bed.device.close();
            return 11;
        });
        CHECK(ended == 11);
        CHECK(is_vp(bed.vp.get()));
        CHECK(is_device(bed.device.get()));
    }

    TEST_CASE("a child of fork opens the device for itself") {
        VpBed bed;
        const int ended = in_child([] {
            const auto device = open_device();
            const auto partition = create_partition(device.descriptor);
            const bool works =
                control(partition.descriptor, ioctls::initialize_partition) == "ok" &&
                is_vp(create_vp(partition.descriptor, 0).descriptor.get());
            return works ? 12 : 13;
        });
        CHECK(ended == 12);
        CHECK(is_vp(bed.vp.get()));
    }

    TEST_CASE("a child of vfork closes in its own table only") {
        const VpBed bed;
        const pid_t child = ::vfork();
        if (child == 0) {
            ::close_range(3, ~0U, 0);
            ::_exit(0);
        }
        ::waitpid(child, nullptr, 0);
        CHECK(is_vp(bed.vp.get()));
        CHECK(is_device(bed.device.get()));
    }
}

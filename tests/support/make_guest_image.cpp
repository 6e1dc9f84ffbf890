// SPDX-License-Identifier: Apache-2.0
// make_guest_image HYPERVISOR MEMORY GUEST GUEST_OPTIONS LOG IMAGE: the test guest in the middle of
// its work, as a snapshot would have it.
#include "tools/quantities.hpp"
#include "tools/trial/guest_in_file.hpp"

#include <fmt/format.h>

int main(int argc, char** argv) {
    using namespace wherry;
    if (argc != 7) {
        fmt::print(
            stderr, "usage: make_guest_image HYPERVISOR MEMORY GUEST GUEST_OPTIONS LOG IMAGE\n");
        return 2;
    }
    const auto hypervisor = vmm::hypervisor_from(argv[1]);
    const auto memory = tools::parse_size(argv[2]);
    if (!hypervisor || !memory) {
        fmt::print(
            stderr,
            "make_guest_image: {}\n",
            (hypervisor ? memory.error() : hypervisor.error()).text());
        return 2;
    }
    const auto made = tools::write_guest_in_file(
        {.guest = argv[3], .hypervisor = *hypervisor, .memory = *memory, .guest_options = argv[4]},
        argv[5],
        argv[6]);
    if (!made) {
        fmt::print(stderr, "make_guest_image: {}\n", made.error().text());
        return 1;
    }
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "vmm/x86/linear_memory.hpp"

#include <algorithm>
#include <bit>
#include <optional>

#include <fmt/format.h>

namespace wherry::vmm::x86 {

using formats::Bytes;
using formats::Gpa;

namespace {

using Word = std::array<std::byte, 8>;
static_assert(std::endian::native == std::endian::little, "guest words are taken as they are");

std::uint64_t number_from(const Word& bytes) {
    return std::bit_cast<std::uint64_t>(bytes);
}

/// The number of bytes up to the end of the page that `address` is in.
std::size_t left_in_page(std::uint64_t address) {
    return formats::page_size - address % formats::page_size;
}

/// Calls `access` for pieces of 8, 4, 2 or 1 bytes, as large as they come: what buses carry.
template <typename Access>
void in_bus_pieces(Gpa at, std::size_t size, Access access) {
    for (std::size_t done = 0; done < size;) {
        const std::size_t piece = std::bit_floor(size - done);
        access(at + Bytes{done}, done, piece);
        done += piece;
    }
}

} // namespace

bool LinearMemory::is_ram(Gpa at) const noexcept {
    return std::ranges::any_of(memory_.regions(), [at](const MemoryRegion& region) {
        return region.pages.contains(formats::gfn_of(at));
    });
}

Step<Gpa> LinearMemory::physical(std::uint64_t linear, Access access) {
    auto translation = translate(cpu_, memory_, linear, access);
    if (!translation) {
        return stop(std::move(translation.error()));
    }
    if (!*translation) {
        return stop(translation->error());
    }
    return **translation;
}

Step<Place> LinearMemory::locate(std::uint64_t linear, unsigned size, Access access) {
    Place place;
    std::size_t done = 0;
    while (done < size) {
        std::uint64_t at = linear + done;
        if (!is_64_bit(cpu_)) {
            at &= 0xffff'ffff;
        }
        auto physical_address = physical(at, access);
        if (!physical_address) {
            return stop(physical_address);
        }
        const std::size_t length = std::min<std::size_t>(size - done, left_in_page(at));
        place.runs[place.run_count++] = {
            .at = *physical_address, .size = length, .is_ram = is_ram(*physical_address)};
        done += length;
    }
    return place;
}

Step<std::uint64_t> LinearMemory::read(const Place& place) {
    Word bytes{};
    std::size_t begin = 0;
    for (const auto& run : place.used()) {
        const auto into = std::span{bytes}.subspan(begin, run.size);
        if (!run.is_ram) {
            in_bus_pieces(run.at, run.size, [&](Gpa at, std::size_t from, std::size_t size) {
                handler_.memory_read(at, into.subspan(from, size));
            });
        } else if (auto read = memory_.read(run.at, into); !read) {
            return stop(std::move(read.error()));
        }
        begin += run.size;
    }
    return number_from(bytes);
}

Step<void> LinearMemory::write(const Place& place, std::uint64_t value) {
    const auto bytes = std::bit_cast<Word>(value);
    std::size_t begin = 0;
    for (const auto& run : place.used()) {
        const auto from = std::span{bytes}.subspan(begin, run.size);
        if (!run.is_ram) {
            in_bus_pieces(run.at, run.size, [&](Gpa at, std::size_t first, std::size_t size) {
                handler_.memory_write(at, from.subspan(first, size));
            });
        } else if (auto written = memory_.write(run.at, from); !written) {
            return stop(std::move(written.error()));
        }
        begin += run.size;
    }
    return {};
}

Step<bool>
LinearMemory::exchange(const Place& place, std::uint64_t expected, std::uint64_t desired) {
    const Place::Run& run = place.runs.front();
    if (place.run_count != 1 || !run.is_ram || run.at.value() % run.size != 0) {
        auto written = write(place, desired);
        if (!written) {
            return stop(written);
        }
        return true;
    }
    const auto attempt = [&]<typename T>(T /*width*/) {
        return memory_.compare_exchange(run.at, static_cast<T>(expected), static_cast<T>(desired));
    };
    auto done = run.size == 1   ? attempt(std::uint8_t{})
                : run.size == 2 ? attempt(std::uint16_t{})
                : run.size == 4 ? attempt(std::uint32_t{})
                                : attempt(std::uint64_t{});
    if (!done) {
        return stop(std::move(done.error()));
    }
    return *done;
}

Step<std::size_t> LinearMemory::fetch(std::uint64_t linear, std::span<std::byte> into) {
    std::size_t done = 0;
    while (done < into.size()) {
        auto at = physical(linear + done, Access::execute);
        if (!at) {
            return done == 0 ? Step<std::size_t>{stop(at)} : done;
        }
        const std::size_t length = std::min(into.size() - done, left_in_page(linear + done));
        if (auto read = memory_.read(*at, into.subspan(done, length)); !read) {
            return done == 0 ? Step<std::size_t>{stop(std::move(read.error()))} : done;
        }
        done += length;
    }
    return done;
}

} // namespace wherry::vmm::x86

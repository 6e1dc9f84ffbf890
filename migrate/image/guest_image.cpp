// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/guest_image.hpp"

#include "migrate/image/image_increment.hpp"
#include "vmm/saved_state.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::PageCount;
using formats::PageRange;
using formats::Result;
using formats::Status;

namespace {

constexpr PageCount pages_per_copy = formats::raw_pages_per_batch;
/// Heads, tables and the like, of all chunks together, at most: a front of eight blocks for 256
/// pages that lie one by one, one block for those that do not.
constexpr std::uint64_t overhead_divisor = 32;
constexpr Bytes fixed_overhead = formats::operator""_MiB(1);

Status
write_pages(const vmm::GuestMemory& memory, const dirtylog::DirtySet& pages, ImageWriter& writer) {
    std::vector<std::byte> copy(formats::bytes_of(pages_per_copy).value());
    Status done;
    pages.for_each_run(pages_per_copy, [&](PageRange run) {
        const auto bytes = std::span{copy}.first(formats::bytes_of(run.count()).value());
        if (done) {
            done = memory.copy_pages(run, bytes);
        }
        if (done) {
            done = writer.add_pages(run, bytes);
        }
    });
    return done;
}

Status refuse_pair(std::string why) {
    return fail(ErrorCode::invalid_argument, std::move(why));
}

Status check_halves(const ImageReader& source, const ImageReader& destination) {
    const auto& ours = source.description();
    const auto& theirs = destination.description();
    if (ours.extent != ImageExtent::source_half) {
        return refuse_pair(fmt::format(
            "{} is {}; the source's half comes first", source.name(), name_of(ours.extent)));
    }
    if (theirs.extent != ImageExtent::destination_half) {
        return refuse_pair(fmt::format(
            "{} is {}; the destination's half comes second",
            destination.name(),
            name_of(theirs.extent)));
    }
    if (ours.plan.vm_id != theirs.plan.vm_id) {
        return refuse_pair("the halves are of two VMs");
    }
    if (ours.migration_id != theirs.migration_id || ours.epoch != theirs.epoch) {
        return refuse_pair(fmt::format(
            "the halves are of two migrations: {} as epoch {}, and {} as epoch {}",
            ours.migration_id,
            static_cast<std::uint64_t>(ours.epoch),
            theirs.migration_id,
            static_cast<std::uint64_t>(theirs.epoch)));
    }
    if (ours.plan.regions != theirs.plan.regions) {
        return refuse_pair("the halves tell of different RAM");
    }
    return {};
}

/// Of each run what is in `wanted`.
Status add_wanted(
    ImageWriter& writer,
    const dirtylog::DirtySet& wanted,
    PageRange pages,
    std::span<const std::byte> bytes) {
    auto run = wanted.first_run_in(pages);
    while (run) {
        const PageCount from = run->first() - pages.first();
        auto added = writer.add_pages(
            *run,
            bytes.subspan(
                formats::bytes_of(from).value(), formats::bytes_of(run->count()).value()));
        const PageCount next = from + run->count();
        if (!added || next == pages.count()) {
            return added;
        }
        run = wanted.first_run_in(pages.part(next, pages.count()));
    }
    return {};
}

Status copy_both(
    ImageReader& source,
    ImageReader& destination,
    const dirtylog::DirtySet& absent,
    ImageWriter& writer) {
    auto state = destination.machine_state();
    auto done = state ? writer.add_machine_state(*state) : fail(std::move(state).error());
    if (done) {
        done = destination.for_each_run([&](PageRange pages, std::span<const std::byte> bytes) {
            return writer.add_pages(pages, bytes);
        });
    }
    if (done) {
        done = source.for_each_run([&](PageRange pages, std::span<const std::byte> bytes) {
            return add_wanted(writer, absent, pages, bytes);
        });
    }
    return done;
}

} // namespace

ImageDescription
describe_guest(vmm::Machine& machine, ImageDescription given, PageCount populated) {
    Plan plan = plan_for(machine);
    plan.vm_name = std::move(given.plan.vm_name);
    plan.vm_id = std::move(given.plan.vm_id);
    plan.stays_paused = given.plan.stays_paused;
    plan.populated = formats::bytes_of(populated);
    given.plan = std::move(plan);
    return given;
}

Bytes image_size_at_most(PageCount pages) {
    const Bytes raw = formats::bytes_of(pages);
    return raw + raw / overhead_divisor + fixed_overhead;
}

Status write_guest(
    vmm::Machine& machine,
    ImageDescription description,
    const dirtylog::DirtySet& absent,
    const std::filesystem::path& path,
    const ImageOptions& options,
    ImageChain* base) {
    auto state = machine.save();
    if (!state) {
        return fail(std::move(state).error().during("saving the VM's state"));
    }
    const auto encoded = vmm::encode(*state);
    if (!encoded) {
        return fail(encoded.error());
    }
    auto pages = dirtylog::DirtySet::populated(machine.memory());
    if (!pages) {
        return fail(std::move(pages).error());
    }
    ImageOptions how = options;
    std::optional<ImageIncrement> increment;
    if (base != nullptr) {
        auto made = ImageIncrement::on(*base, machine.memory(), how);
        if (!made) {
            return fail(std::move(made).error());
        }
        increment = *std::move(made);
        pages->merge(increment->pages_of_base());
    }
    pages->subtract(absent);
    description = describe_guest(machine, std::move(description), pages->count());
    description.absent = absent.count();
    auto file = NewImageFile::create(path);
    if (!file) {
        return fail(std::move(file).error());
    }
    auto writer =
        ImageWriter::begin(*file, description, how, increment ? &increment->difference() : nullptr);
    if (!writer) {
        return fail(std::move(writer).error());
    }
    writer->expect(image_size_at_most(pages->count()));
    return formats::then(
        formats::then(
            formats::then(
                writer->add_machine_state(*encoded),
                [&] { return write_pages(machine.memory(), *pages, *writer); }),
            [&] { return writer->add_absent(absent); }),
        [&] { return writer->finish(); });
}

Status join_halves(
    ImageReader& source,
    ImageReader& destination,
    const std::filesystem::path& path,
    const ImageOptions& options) {
    if (auto good = check_halves(source, destination); !good) {
        return good;
    }
    const auto absent = destination.absent();
    if (!absent) {
        return fail(absent.error());
    }
    auto file = NewImageFile::create(path);
    if (!file) {
        return fail(std::move(file).error());
    }
    ImageDescription description = destination.description();
    description.extent = ImageExtent::whole;
    description.absent = PageCount{0};
    description.written_at = std::max(description.written_at, source.description().written_at);
    auto writer = ImageWriter::begin(*file, description, options);
    if (!writer) {
        return fail(std::move(writer).error());
    }
    writer->expect(source.size() + destination.size());
    return formats::then(
        copy_both(source, destination, *absent, *writer), [&] { return writer->finish(); });
}

} // namespace wherry::migrate

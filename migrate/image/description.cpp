// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/description.hpp"

#include "formats/error_message.hpp"
#include "formats/image.hpp"
#include "formats/page_run.hpp"
#include "formats/proto/image.pb.h"
#include "migrate/channel_name.hpp"
#include "migrate/ownership/event.hpp"
#include "migrate/ownership/vm_id.hpp"

#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::fail;
using formats::Result;

namespace {

/// Of RAM: what full chunks hold of as many sections as an image may have.
constexpr formats::Bytes memory_limit =
    formats::bytes_of(formats::raw_pages_per_batch) * formats::image_sections_limit;

bool is_extent(std::uint32_t number) {
    return number >= static_cast<std::uint32_t>(ImageExtent::whole) &&
           number <= static_cast<std::uint32_t>(ImageExtent::destination_half);
}

/// The pages of all regions; 0 where they are more than any machine has.
formats::PageCount size_of(const Plan& plan) {
    formats::PageCount pages;
    for (const formats::PageRange region : plan.regions) {
        if (region.count() > formats::pages_for(plan.config.memory) - pages) {
            return formats::PageCount{0};
        }
        pages += region.count();
    }
    return pages;
}

} // namespace

std::string_view name_of(ImageExtent extent) noexcept {
    switch (extent) {
    case ImageExtent::whole:
        return "a whole guest";
    case ImageExtent::source_half:
        return "the source's half";
    case ImageExtent::destination_half:
        return "the destination's half";
    }
    return "";
}

std::vector<std::byte> encode(const ImageDescription& description) {
    formats::proto::ImageDescription message;
    message.set_extent(static_cast<std::uint32_t>(description.extent));
    to_proto(description.plan, *message.mutable_plan());
    message.set_epoch(static_cast<std::uint64_t>(description.epoch));
    message.set_migration_id(description.migration_id);
    message.set_arbiter(description.arbiter);
    message.set_written_at(description.written_at.time_since_epoch().count());
    message.set_absent_pages(description.absent.value());
    std::vector<std::byte> bytes(message.ByteSizeLong());
    message.SerializeToArray(bytes.data(), static_cast<int>(bytes.size()));
    return bytes;
}

Result<ImageDescription> decode_image_description(std::span<const std::byte> bytes) {
    formats::proto::ImageDescription message;
    if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
        return fail(ErrorCode::corrupted, "its description is damaged");
    }
    if (!is_extent(message.extent())) {
        return fail(
            ErrorCode::unsupported,
            fmt::format("it is a part of a guest of the unknown kind {}", message.extent()));
    }
    auto plan = from_proto(message.plan());
    if (!plan) {
        return fail(std::move(plan).error().during("its description"));
    }
    if (plan->config.memory > memory_limit) {
        return fail(
            ErrorCode::unsupported,
            fmt::format(
                "a guest of {} GiB is beyond this format's limit of {} GiB",
                plan->config.memory.value() >> 30U,
                memory_limit.value() >> 30U));
    }
    if (plan->page_size != formats::page_bytes ||
        size_of(*plan) != formats::pages_for(plan->config.memory)) {
        return fail(ErrorCode::corrupted, "its RAM is not as large as its regions");
    }
    if (auto id = VmId::parse(plan->vm_id); !id) {
        return fail(ErrorCode::corrupted, "it does not say which VM it is of");
    }
    ImageDescription description;
    description.extent = static_cast<ImageExtent>(message.extent());
    description.plan = *std::move(plan);
    description.epoch = Epoch{message.epoch()};
    description.migration_id = formats::sanitised(message.migration_id(), migration_id_limit);
    description.arbiter = formats::sanitised(message.arbiter(), arbiter_name_limit);
    description.written_at = std::chrono::sys_seconds{std::chrono::seconds{message.written_at()}};
    description.absent = formats::PageCount{message.absent_pages()};
    const bool lacks_pages = description.absent > formats::PageCount{0};
    if (lacks_pages && description.extent != ImageExtent::destination_half) {
        return fail(ErrorCode::corrupted, "it lacks pages, and does not say why");
    }
    return description;
}

dirtylog::DirtySet no_pages_of(const Plan& plan) {
    return dirtylog::DirtySet{plan.regions};
}

} // namespace wherry::migrate

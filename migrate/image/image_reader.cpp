// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_reader.hpp"

#include "formats/page_set.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace wherry::migrate {

using formats::Bytes;
using formats::ErrorCode;
using formats::fail;
using formats::IndexEntry;
using formats::PageCount;
using formats::PageRange;
using formats::Result;
using formats::SectionHead;
using formats::SectionType;
using formats::Status;

namespace {

constexpr Bytes block{formats::image_block};
constexpr Bytes head_size{formats::section_head_size};

bool is_zero(std::span<const std::byte> bytes) {
    return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

std::unexpected<formats::Error> damaged(std::string what) {
    return fail(ErrorCode::corrupted, std::move(what));
}

bool is_ram(const Plan& plan, PageRange pages) {
    return std::ranges::any_of(
        plan.regions, [pages](PageRange region) { return region.contains(pages); });
}

} // namespace

Result<ImageReader> ImageReader::open(std::unique_ptr<ImageSource> source) {
    ImageReader reader{std::move(source)};
    auto loaded = reader.load();
    if (!loaded) {
        return fail(std::move(loaded).error().during(reader.name()));
    }
    return reader;
}

Result<ImageReader> ImageReader::open(const std::filesystem::path& path) {
    auto source = open_image(path);
    if (!source) {
        return fail(std::move(source).error());
    }
    return open(*std::move(source));
}

Status ImageReader::load() {
    if (size() < block) {
        return fail(ErrorCode::invalid_argument, "it is too short to be an image of a VM");
    }
    if (auto got = read(Bytes{0}, header_block_); !got) {
        return got;
    }
    auto header = formats::decode_image_header(header_block_);
    if (!header) {
        return fail(std::move(header).error());
    }
    header_ = *std::move(header);
    if (size() % block != Bytes{0}) {
        return fail(explain_end());
    }
    formats::ImageBlock last{};
    if (auto got = read(size() - block, last); !got) {
        return got;
    }
    const auto trailer = formats::decode_image_trailer(last);
    if (!trailer) {
        return fail(
            trailer.error().code() == ErrorCode::corrupted ? explain_end() : trailer.error());
    }
    if (trailer->id != header_.id) {
        return damaged("its trailer is of another image");
    }
    return formats::then(load_index(*trailer), [this] { return load_description(); });
}

formats::Error ImageReader::explain_end() {
    Bytes at = block;
    formats::SectionHeadBytes bytes{};
    std::size_t number = 0;
    std::string last = "its header";
    while (at + head_size <= size() && read(at, bytes)) {
        const auto found = formats::decode_section_head(bytes);
        if (!found || found->id != header_.id) {
            break;
        }
        const auto what = fmt::format("section {} ({})", number, name_of(found->head.type));
        const Bytes length = formats::section_length(found->head);
        if (length > size() - at) {
            return {ErrorCode::corrupted, "it is cut off: it ends within " + what};
        }
        last = what;
        at += length;
        ++number;
    }
    if (at == size()) {
        return {ErrorCode::corrupted, "it is cut off: it ends behind " + last};
    }
    return {
        ErrorCode::corrupted,
        fmt::format(
            "it has no trailer at its end; behind {}, at byte {}, no section begins",
            last,
            at.value())};
}

Status ImageReader::load_index(const formats::ImageTrailer& trailer) {
    const bool is_possible = trailer.file_length == size() && trailer.index_offset >= block &&
                             trailer.index_offset % block == Bytes{0} &&
                             trailer.index_offset + block < size();
    if (!is_possible) {
        return damaged(fmt::format(
            "its trailer tells of a file of {} bytes, and this one has {}",
            trailer.file_length.value(),
            size().value()));
    }
    formats::ImageBlock front{};
    if (auto got = read(trailer.index_offset, front); !got) {
        return got;
    }
    const auto head = std::span{front}.first<formats::section_head_size>();
    const auto found = formats::decode_section_head(head);
    if (!found || found->head.type != SectionType::index || found->head.table_length != 0 ||
        found->id != header_.id || !is_zero(std::span{front}.subspan(head.size())) ||
        trailer.index_offset + formats::section_length(found->head) + block != size()) {
        return damaged("its index is damaged");
    }
    std::vector<std::byte> whole(
        (formats::section_length(found->head) - formats::front_length(found->head)).value());
    if (auto got = read(trailer.index_offset + block, whole); !got) {
        return got;
    }
    const auto payload = std::span{whole}.first(found->head.payload_length.value());
    root_ = digest_.update(header_block_).update(head).update(payload).finish();
    if (digest_.update(payload).finish() != found->head.digest || root_ != trailer.root ||
        !is_zero(std::span{whole}.subspan(payload.size()))) {
        return damaged("its index is damaged");
    }
    auto entries = formats::decode_image_index(payload, trailer.index_offset);
    if (!entries) {
        return fail(std::move(entries).error());
    }
    if (entries->size() != found->number) {
        return damaged("its index is damaged");
    }
    sections_ = *std::move(entries);
    return {};
}

Result<std::size_t> ImageReader::only_one_of(SectionType type) const {
    const auto is_it = [type](const IndexEntry& entry) {
        return entry.head.type == type;
    };
    const auto found = std::ranges::find_if(sections_, is_it);
    if (std::ranges::count_if(sections_, is_it) != 1) {
        return damaged(fmt::format("it must have one {}, and has none or more", name_of(type)));
    }
    return static_cast<std::size_t>(found - sections_.begin());
}

Status ImageReader::load_description() {
    const auto number = only_one_of(SectionType::description);
    if (!number) {
        return fail(number.error());
    }
    auto section = read_section(*number);
    if (!section) {
        return fail(std::move(section).error());
    }
    auto description = decode_image_description(section->payload);
    if (!description) {
        return fail(std::move(description).error());
    }
    description_ = *std::move(description);
    return {};
}

std::string ImageReader::place_of(std::size_t number) const {
    return fmt::format("section {} ({})", number, name_of(sections_[number].head.type));
}

/// The index, whose digest is right, says what must stand here.
Status ImageReader::check_head(
    std::span<const std::byte> front, const IndexEntry& entry, std::uint32_t number) {
    const auto expected = formats::encode_section_head(entry.head, number, header_.id);
    if (std::ranges::equal(front.first(expected.size()), expected)) {
        return {};
    }
    const auto found = formats::decode_section_head(front.first<formats::section_head_size>());
    if (!found) {
        return fail(found.error());
    }
    if (found->id != header_.id) {
        return damaged("it is of another image");
    }
    if (found->number != number) {
        return damaged(fmt::format("it is out of order: section {} stands here", found->number));
    }
    return damaged("it is not the section that the index tells of");
}

Result<ImageReader::Section> ImageReader::read_section(std::size_t number) {
    const IndexEntry& entry = sections_[number];
    const SectionHead& head = entry.head;
    std::vector<std::byte> front(formats::front_length(head).value());
    std::vector<std::byte> payload(
        (formats::section_length(head) - formats::front_length(head)).value());
    auto done = read(entry.offset, front);
    if (done) {
        done = read(entry.offset + Bytes{front.size()}, payload);
    }
    if (done) {
        done = check_head(front, entry, static_cast<std::uint32_t>(number));
    }
    if (!done) {
        return fail(std::move(done).error().during(place_of(number)));
    }
    const auto table = std::span{front}.subspan(head_size.value(), head.table_length);
    const auto used = head_size.value() + table.size();
    const auto length = head.payload_length.value();
    if (digest_.update(table).update(std::span{payload}.first(length)).finish() != head.digest) {
        return damaged(place_of(number) + ": its digest does not match");
    }
    if (!is_zero(std::span{front}.subspan(used)) || !is_zero(std::span{payload}.subspan(length))) {
        return damaged(place_of(number) + ": what fills its blocks up is not zero");
    }
    payload.resize(length);
    return Section{.table = {table.begin(), table.end()}, .payload = std::move(payload)};
}

Result<std::vector<std::byte>> ImageReader::machine_state() {
    const auto number = only_one_of(SectionType::machine_state);
    if (!number) {
        return fail(formats::Error{number.error()}.during(name()));
    }
    auto section = read_section(*number);
    if (!section) {
        return fail(std::move(section).error().during(name()));
    }
    return std::move(section->payload);
}

Result<dirtylog::DirtySet> ImageReader::absent() {
    auto pages = no_pages_of(description_.plan);
    for (std::size_t number = 0; number < sections_.size(); ++number) {
        if (sections_[number].head.type != SectionType::absent_pages) {
            continue;
        }
        const auto section = read_section(number);
        if (!section) {
            return fail(formats::Error{section.error()}.during(name()));
        }
        const auto set = formats::decode_page_set(section->payload);
        if (!set) {
            return fail(formats::Error{set.error()}.during(place_of(number)).during(name()));
        }
        formats::PageBitmap named{set->pages};
        named.merge_words(set->words);
        for (auto run = named.next_run(set->pages.first(), set->pages.count()); run;
             run = named.next_run(run->end(), set->pages.count())) {
            pages.mark(*run);
        }
    }
    if (pages.count() != description_.absent) {
        return damaged(fmt::format(
            "{}: it says that it lacks {} pages of RAM, and names {}",
            name(),
            description_.absent.value(),
            pages.count().value()));
    }
    return pages;
}

Status
ImageReader::take_chunk(const Section& section, dirtylog::DirtySet& seen, const TakePages& take) {
    constexpr auto head_length = formats::batch_header_size;
    if (section.table.size() < head_length) {
        return damaged("it has no table");
    }
    const auto table = std::span{section.table};
    const Bytes length = Bytes{table.size()} + Bytes{section.payload.size()};
    const auto batch = formats::decode_batch_header(table.first<head_length>(), length);
    if (!batch) {
        return fail(batch.error());
    }
    if (table.size() != head_length + formats::table_length(*batch).value()) {
        return damaged("its table is not as long as it says");
    }
    const auto runs = formats::decode_batch_table(*batch, table.subspan(head_length), length);
    if (!runs) {
        return fail(runs.error());
    }
    std::span<const std::byte> rest{section.payload};
    for (const formats::PageRun& run : *runs) {
        const auto met = is_ram(description_.plan, run.pages)
                             ? seen.next_run(run.pages.first(), run.pages.count())
                             : run.pages;
        if (met && met->first() < run.pages.end()) {
            return damaged(fmt::format(
                "not all of its pages {:#x} to {:#x} are RAM that is in this image, and once",
                run.pages.first().value(),
                (run.pages.end() - PageCount{1}).value()));
        }
        seen.mark(run.pages);
        const auto bytes = rest.first(run.encoded_length.value());
        rest = rest.subspan(bytes.size());
        if (run.encoding == formats::PageEncoding::raw) {
            if (auto taken = take(run.pages, bytes); !taken) {
                return taken;
            }
        }
    }
    return {};
}

Status ImageReader::for_each_run(const TakePages& take) {
    auto seen = absent();
    if (!seen) {
        return fail(std::move(seen).error());
    }
    for (std::size_t number = 0; number < sections_.size(); ++number) {
        if (sections_[number].head.type != SectionType::pages) {
            continue;
        }
        const auto section = read_section(number);
        if (!section) {
            return fail(formats::Error{section.error()}.during(name()));
        }
        auto taken = take_chunk(*section, *seen, take);
        if (!taken) {
            return fail(std::move(taken).error().during(place_of(number)).during(name()));
        }
    }
    return {};
}

/// A section that is skipped for its contents may be of any length: piece by piece.
Status ImageReader::check_unknown(const IndexEntry& entry, std::size_t number) {
    const Bytes begin = entry.offset;
    const Bytes end = begin + formats::section_length(entry.head);
    const Bytes table_end = begin + head_size + Bytes{entry.head.table_length};
    const Bytes payload_at = begin + formats::front_length(entry.head);
    const Bytes payload_end = payload_at + entry.head.payload_length;
    formats::ImageBlock piece{};
    for (Bytes at = begin; at < end; at += block) {
        if (auto got = read(at, piece); !got) {
            return got;
        }
        const auto part = [&](Bytes from, Bytes to) {
            from = std::clamp(from, at, at + block);
            to = std::clamp(to, from, at + block);
            return std::span{piece}.subspan((from - at).value(), (to - from).value());
        };
        if (at == begin) {
            auto known = check_head(piece, entry, static_cast<std::uint32_t>(number));
            if (!known) {
                return known;
            }
        }
        digest_.update(part(begin + head_size, table_end)).update(part(payload_at, payload_end));
        if (!is_zero(part(table_end, payload_at)) || !is_zero(part(payload_end, end))) {
            return damaged("what fills its blocks up is not zero");
        }
    }
    return digest_.finish() == entry.head.digest ? Status{} : damaged("its digest does not match");
}

Status ImageReader::verify() {
    for (std::size_t number = 0; number < sections_.size(); ++number) {
        if (formats::is_known(sections_[number].head.type)) {
            continue;
        }
        auto good = check_unknown(sections_[number], number);
        if (!good) {
            return fail(std::move(good).error().during(place_of(number)).during(name()));
        }
    }
    const auto state = machine_state();
    if (!state) {
        return fail(state.error());
    }
    return for_each_run([](PageRange, std::span<const std::byte>) { return Status{}; });
}

} // namespace wherry::migrate

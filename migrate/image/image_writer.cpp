// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_writer.hpp"

#include "formats/page_digest.hpp"
#include "formats/page_set.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <sys/random.h>

namespace wherry::migrate {

using formats::Bytes;
using formats::fail;
using formats::PageCount;
using formats::PageRange;
using formats::Result;
using formats::SectionType;
using formats::Status;

namespace {

Result<formats::ImageId> make_image_id() {
    formats::ImageId id{};
    // So few bytes come whole or not at all.
    if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
        return fail(formats::system_error(errno, "getting random bytes for an image"));
    }
    return id;
}

std::vector<std::string> features_of(const ImageOptions& options) {
    std::vector<std::string> features;
    if (options.given == GivenPages::again) {
        features.emplace_back(formats::superseded_pages_feature);
    }
    return features;
}

std::span<const std::byte> page_of(std::span<const std::byte> bytes, PageCount index) {
    return bytes.subspan(formats::bytes_of(index).value(), formats::page_size);
}

} // namespace

ImageWriter::ImageWriter(
    NewImageFile& file,
    const formats::ImageId& id,
    const ImageDescription& description,
    const ImageOptions& options)
    : file_{&file},
      options_{options},
      id_{id},
      header_{formats::encode_image_header(
          {.id = id, .critical_features = features_of(options), .optional_features = {}})},
      page_map_{description.plan.regions} {
    raw_.reserve(formats::bytes_of(formats::raw_pages_per_batch).value());
}

Result<ImageWriter> ImageWriter::begin(
    NewImageFile& file, const ImageDescription& description, const ImageOptions& options) {
    auto id = make_image_id();
    if (!id) {
        return fail(std::move(id).error());
    }
    ImageWriter writer{file, *id, description, options};
    auto begun = file.append(writer.header_);
    if (begun) {
        begun =
            writer.add_section(SectionType::description, Need::critical, {}, encode(description));
    }
    if (!begun) {
        return fail(std::move(begun).error());
    }
    return writer;
}

Status ImageWriter::pad() {
    static constexpr formats::ImageBlock zeros{};
    const auto over = file_->written().value() % formats::image_block;
    return over == 0 ? Status{} : file_->append(std::span{zeros}.subspan(over));
}

Status ImageWriter::add_section(
    SectionType type,
    Need need,
    std::span<const std::byte> table,
    std::span<const std::byte> payload) {
    const formats::IndexEntry entry{
        .offset = file_->written(),
        .head = {
            .type = type,
            .is_critical = need == Need::critical,
            .table_length = static_cast<std::uint32_t>(table.size()),
            .payload_length = Bytes{payload.size()},
            .digest = digest_.update(table).update(payload).finish()}};
    const auto head = formats::encode_section_head(entry.head, next_number(), id_);
    sections_.push_back(entry);
    auto done = file_->append(head);
    for (const auto part : {table, payload}) {
        if (done) {
            done = file_->append(part);
        }
        if (done) {
            done = pad();
        }
    }
    return done;
}

Status ImageWriter::add_machine_state(std::span<const std::byte> state) {
    return formats::then(flush_pages(), [&] {
        return add_section(SectionType::machine_state, Need::critical, {}, state);
    });
}

Status ImageWriter::flush_pages() {
    if (batch_.is_empty()) {
        return {};
    }
    auto done = add_section(SectionType::pages, Need::critical, batch_.head(), raw_);
    batch_.reset(0);
    raw_.clear();
    return done;
}

Status ImageWriter::add_pages(PageRange pages, std::span<const std::byte> bytes) {
    for (PageCount at; at < pages.count(); at += PageCount{1}) {
        auto added = add_page(pages.part(at, at + PageCount{1}), page_of(bytes, at));
        if (!added) {
            return added;
        }
    }
    return {};
}

Status ImageWriter::add_page(PageRange page, std::span<const std::byte> bytes) {
    const auto given = page_map_.chunk_of(page.first());
    formats::invariant(
        !given || options_.given == GivenPages::again, "a page is given to a writer once");
    const bool is_zero = formats::is_zero_page(bytes.first<formats::page_size>());
    if (is_zero && !given) {
        return {};
    }
    const auto add = [&] {
        return is_zero ? batch_.add_zero(page) : batch_.add_raw(page);
    };
    // A chunk has a page once.
    if (given == next_number() || add() == PageCount{0}) {
        if (auto flushed = flush_pages(); !flushed) {
            return flushed;
        }
        formats::invariant(add() == PageCount{1}, "an empty batch takes a page");
    }
    page_map_.add(page, next_number());
    if (!is_zero) {
        raw_.insert(raw_.end(), bytes.begin(), bytes.end());
    }
    return {};
}

Status ImageWriter::add_absent(const dirtylog::DirtySet& pages) {
    if (auto flushed = flush_pages(); !flushed) {
        return flushed;
    }
    for (const auto& bitmap : pages.bitmaps()) {
        const PageRange region = bitmap.pages();
        for (PageCount at; at < region.count(); at += formats::pages_per_set) {
            const PageRange stretch =
                region.part(at, std::min(at + formats::pages_per_set, region.count()));
            const auto first = at.value() / 64;
            const auto words = bitmap.words().subspan(first, (stretch.count().value() + 63) / 64);
            const bool is_empty = std::ranges::all_of(words, [](auto word) { return word == 0; });
            if (is_empty) {
                continue;
            }
            auto added = add_section(
                SectionType::absent_pages,
                Need::critical,
                {},
                formats::encode_page_set(stretch, words));
            if (!added) {
                return added;
            }
        }
    }
    return {};
}

/// A reader that does not know it finds the same in the chunks.
Status ImageWriter::add_page_map() {
    const PageMap map = page_map_.build();
    auto rest = map.entries();
    Status done;
    while (done && !rest.empty()) {
        const auto some = rest.first(std::min(rest.size(), formats::page_map_entries_limit));
        rest = rest.subspan(some.size());
        done =
            add_section(SectionType::page_map, Need::optional, {}, formats::encode_page_map(some));
    }
    return done;
}

Status ImageWriter::finish() {
    auto mapped = formats::then(flush_pages(), [this] { return add_page_map(); });
    if (!mapped) {
        return mapped;
    }
    const auto payload = formats::encode_image_index(sections_);
    const Bytes index_offset = file_->written();
    if (auto added = add_section(SectionType::index, Need::critical, {}, payload); !added) {
        return added;
    }
    const auto number = static_cast<std::uint32_t>(sections_.size() - 1);
    const auto head = formats::encode_section_head(sections_.back().head, number, id_);
    const auto trailer = formats::encode_image_trailer(
        {.id = id_,
         .index_offset = index_offset,
         .file_length = file_->written() + Bytes{formats::image_block},
         .root = digest_.update(header_).update(head).update(payload).finish()});
    return formats::then(file_->append(trailer), [this] { return file_->publish(); });
}

} // namespace wherry::migrate

// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_writer.hpp"

#include "formats/page_digest.hpp"
#include "formats/page_set.hpp"
#include "formats/random_bytes.hpp"
#include "migrate/image/image_difference.hpp"

#include <algorithm>
#include <array>
#include <utility>

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
    auto filled = formats::fill_randomly(id, "an image");
    if (!filled) {
        return fail(std::move(filled).error());
    }
    return id;
}

formats::ImageHeader header_of(const formats::ImageId& id, const ImageOptions& options) {
    formats::ImageHeader header{.id = id};
    if (options.layout == ImageLayout::zstd) {
        header.critical_features.emplace_back(formats::zstd_feature);
    }
    if (options.given == GivenPages::again) {
        header.critical_features.emplace_back(formats::superseded_pages_feature);
    }
    if (options.key) {
        header.critical_features.emplace_back(formats::sealed_feature);
        header.key_check = ImageKey{*options.key, id}.check();
    }
    if (options.base) {
        header.critical_features.emplace_back(formats::base_feature);
        header.base = options.base;
    }
    if (digest_kind_for(options) == DigestKind::xxh3) {
        header.critical_features.emplace_back(formats::xxh3_feature);
    }
    if (options.signing_key) {
        header.optional_features.emplace_back(formats::signed_feature);
    }
    return header;
}

std::span<const std::byte> page_of(std::span<const std::byte> bytes, PageCount index) {
    return bytes.subspan(formats::bytes_of(index).value(), formats::page_size);
}

} // namespace

ImageWriter::ImageWriter(
    ImageSink& file,
    const formats::ImageId& id,
    const formats::ImageBlock& header,
    const ImageDescription& description,
    const ImageOptions& options,
    ImageDifference* base)
    : file_{&file},
      base_{base},
      options_{options},
      id_{id},
      header_{header},
      pipeline_{std::make_unique<SectionPipeline>(options, id, file)},
      page_map_{description.plan.regions} {
    formats::invariant(
        options.chunk_pages >= PageCount{1} && options.chunk_pages <= formats::raw_pages_per_batch,
        "a chunk has some pages, and not more than a reader takes");
}

Result<ImageWriter> ImageWriter::begin(
    ImageSink& file,
    const ImageDescription& description,
    const ImageOptions& options,
    ImageDifference* base) {
    auto id = make_image_id();
    if (!id) {
        return fail(std::move(id).error());
    }
    const auto header = formats::encode_image_header(header_of(*id, options));
    if (auto begun = file.append(header); !begun) {
        return fail(std::move(begun).error());
    }
    ImageWriter writer{file, *id, header, description, options, base};
    auto described =
        writer.add_section(SectionType::description, Need::critical, {}, encode(description));
    if (!described) {
        return fail(std::move(described).error());
    }
    return writer;
}

Status ImageWriter::add_section(
    SectionType type, Need need, std::span<const std::byte> table, std::vector<std::byte> payload) {
    return pipeline_->put(
        {.type = type,
         .is_critical = need == Need::critical,
         .number = next_number_++,
         .table = {table.begin(), table.end()},
         .payload = std::move(payload)});
}

Status ImageWriter::add_machine_state(std::span<const std::byte> state) {
    return formats::then(flush_pages(), [&] {
        return add_section(
            SectionType::machine_state, Need::critical, {}, {state.begin(), state.end()});
    });
}

Status ImageWriter::flush_pages() {
    if (batch_.is_empty()) {
        return {};
    }
    auto done =
        add_section(SectionType::pages, Need::critical, batch_.head(), std::exchange(raw_, {}));
    batch_.reset(0);
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

/// Of a page that was not given before: what a reader would not find without it.
Result<bool>
ImageWriter::is_needed(formats::Gfn page, std::span<const std::byte> bytes, bool is_zero) {
    return base_ != nullptr ? base_->differs(page, bytes) : Result<bool>{options_.base || !is_zero};
}

Status ImageWriter::add_page(PageRange page, std::span<const std::byte> bytes) {
    const auto given = page_map_.chunk_of(page.first());
    formats::invariant(
        !given || options_.given == GivenPages::again, "a page is given to a writer once");
    const bool is_zero = formats::is_zero_page(bytes.first<formats::page_size>());
    if (!given) {
        const auto needed = is_needed(page.first(), bytes, is_zero);
        if (!needed || !*needed) {
            return needed ? Status{} : fail(needed.error());
        }
    }
    const auto add = [&] {
        return is_zero ? batch_.add_zero(page) : batch_.add_raw(page);
    };
    // A chunk has a page once.
    const bool is_full = given == next_number_ || batch_.raw_pages() == options_.chunk_pages;
    if (is_full || add() == PageCount{0}) {
        if (auto flushed = flush_pages(); !flushed) {
            return flushed;
        }
        formats::invariant(add() == PageCount{1}, "an empty batch takes a page");
    }
    page_map_.add(page, next_number_);
    if (!is_zero) {
        raw_.reserve(formats::bytes_of(options_.chunk_pages).value());
        raw_.insert(raw_.end(), bytes.begin(), bytes.end());
        raw_pages_ += PageCount{1};
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
        const auto some = rest.first(std::min(rest.size(), formats::page_map_entries_per_section));
        rest = rest.subspan(some.size());
        done =
            add_section(SectionType::page_map, Need::optional, {}, formats::encode_page_map(some));
    }
    return done;
}

Status ImageWriter::finish() {
    return formats::then(
        formats::then(
            formats::then(flush_pages(), [this] { return add_page_map(); }),
            [this] { return write_end(); }),
        [this] { return file_->publish(); });
}

/// What is under way, the index and the trailer.
Status ImageWriter::write_end() {
    if (auto finished = pipeline_->finish(); !finished) {
        return finished;
    }
    const Bytes index_offset = file_->written();
    const auto index = SectionEncoder{options_, id_}.encode(
        {.type = SectionType::index,
         .number = next_number_,
         .table = {},
         .payload = formats::encode_image_index(pipeline_->entries())});
    auto appended =
        formats::then(file_->append(index.front), [&] { return file_->append(index.payload); });
    if (!appended) {
        return appended;
    }
    const auto head = std::span{index.front}.first<formats::section_head_size>();
    const auto entries = std::span{index.payload}.first(index.head.payload_length.value());
    formats::ImageTrailer trailer{
        .id = id_,
        .index_offset = index_offset,
        .file_length = file_->written() + Bytes{formats::image_block},
        .root = root_of(header_, head, entries)};
    if (options_.key) {
        trailer.seal = ImageKey{*options_.key, id_}.seal_of(trailer.root);
    }
    if (options_.signing_key) {
        trailer.signature = options_.signing_key->sign(id_, trailer.root);
    }
    return file_->append(formats::encode_image_trailer(trailer));
}

} // namespace wherry::migrate

// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/image_copy.hpp"

#include "migrate/image/image_writer.hpp"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace wherry::migrate {

using formats::fail;
using formats::PageCount;
using formats::PageRange;
using formats::Status;

namespace {

constexpr PageCount zeros_at_once = formats::raw_pages_per_batch;

/// Description and state of `image`, the pages that `add_pages` gives, and what it lacks.
template <typename AddPages>
Status copy(
    ImageReader& image,
    const std::filesystem::path& path,
    const ImageOptions& options,
    const AddPages& add_pages) {
    auto file = NewImageFile::create(path);
    if (!file) {
        return fail(std::move(file).error());
    }
    auto writer = ImageWriter::begin(*file, image.description(), options);
    if (!writer) {
        return fail(std::move(writer).error());
    }
    const auto absent = image.absent();
    if (!absent) {
        return fail(absent.error());
    }
    const auto state = image.machine_state();
    auto done = state ? writer->add_machine_state(*state) : fail(state.error());
    done = formats::then(std::move(done), [&] { return add_pages(*writer); });
    done = formats::then(std::move(done), [&] { return writer->add_absent(*absent); });
    return formats::then(std::move(done), [&] { return writer->finish(); });
}

Status add_run(ImageWriter& writer, PageRange pages, std::span<const std::byte> bytes) {
    if (!bytes.empty()) {
        return writer.add_pages(pages, bytes);
    }
    static const std::vector<std::byte> zeros(formats::bytes_of(zeros_at_once).value());
    Status done;
    for (PageCount at; done && at < pages.count(); at += zeros_at_once) {
        const PageRange some = pages.part(at, std::min(at + zeros_at_once, pages.count()));
        const auto length = formats::bytes_of(some.count()).value();
        done = writer.add_pages(some, std::span{zeros}.first(length));
    }
    return done;
}

/// Of the image's own chunks, those of zeros too.
Status copy_chunks(ImageReader& image, ImageWriter& writer) {
    const auto map = image.page_map();
    if (!map) {
        return fail(map.error());
    }
    const TakePages add = [&writer](PageRange pages, std::span<const std::byte> bytes) {
        return add_run(writer, pages, bytes);
    };
    Status done;
    for (std::uint32_t number = 0; done && number < image.sections().size(); ++number) {
        if ((*map)->count_in(number) > PageCount{0}) {
            done = image.read_chunk(number, add);
        }
    }
    return done;
}

} // namespace

Status flatten(ImageChain& chain, const std::filesystem::path& path, const ImageOptions& options) {
    ImageOptions how = options;
    how.base = std::nullopt;
    return copy(chain.image(), path, how, [&chain](ImageWriter& writer) {
        return chain.for_each_run([&writer](PageRange pages, std::span<const std::byte> bytes) {
            return writer.add_pages(pages, bytes);
        });
    });
}

Status convert(ImageChain& chain, const std::filesystem::path& path, const ImageOptions& options) {
    ImageOptions how = options;
    auto base = chain.base_for(options);
    if (!base) {
        return fail(std::move(base).error());
    }
    how.base = *std::move(base);
    return copy(chain.image(), path, how, [&chain](ImageWriter& writer) {
        return copy_chunks(chain.image(), writer);
    });
}

} // namespace wherry::migrate

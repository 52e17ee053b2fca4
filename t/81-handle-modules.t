# What takes a handle takes a stream's: modules in Perl and in C, in both directions.
use strict;
use warnings;

use Archive::Tar ();
use Digest::MD5 ();
use Digest::SHA ();
use File::Copy ();
use IO::Compress::Gzip ();
use IO::Uncompress::Gunzip ();
use Storable ();
use Test::More;
use lib 't/lib';
use StreamTest qw(libvirtd);

plan skip_all => 'the C binding has no handle' unless rust();

my $daemon = daemon();
my $conn = $daemon->conn;
my $content = pattern(3_000_001);
my $source = $daemon->volume('source', undef, $content);
my $target = $daemon->volume('target', 4 << 20);
my $file = spew(scratch() . '/file', $content);

sub handle_of {
    my ($way, $volume) = @_;
    my $st = $conn->new_stream;
    $volume->$way($st, 0, 0);
    return $st->handle;
}

sub reader { return handle_of(download => $_[0] // $target) }

# Empties the target, and closes what the code has written to.
sub written {
    my ($name, $code) = @_;
    spew($daemon->pool_dir . '/target', "\0" x (4 << 20));
    my $fh = handle_of(upload => $target);
    ok $code->($fh), "$name: writes";
    ok close $fh, '... close' or diag $fh->stream_error;
    return slurp($daemon->pool_dir . '/target');
}

sub read_by {
    my ($name, $code, $from) = @_;
    my $fh = reader($from);
    my $got = $code->($fh);
    is defined $got ? sha($got) : $got, sha($content), "$name: reads";
    ok close $fh, '... close' or diag $fh->stream_error;
    return;
}

# It asks for the file behind a handle, and warns that there is none.
subtest 'File::Copy' => sub {
    my @warned = warnings_of(sub {
        read_by('copy', sub { File::Copy::copy($_[0], "$file.copy") and slurp("$file.copy") }, $source);
        is sha(substr written('copy', sub { File::Copy::copy($file, $_[0]) }), 0, length $content),
            sha($content), 'and arrives';
    });
    is scalar(grep { !/^stat\(\) on unopened filehandle/ } @warned), 0, 'no other warning' or diag @warned;
};

subtest 'digests' => sub {
    for my $class (qw(Digest::SHA Digest::MD5)) {
        my $want = $class->new->add($content)->hexdigest;
        my $fh = reader($source);
        is $class->new->addfile($fh)->hexdigest, $want, $class;
        ok close $fh, 'close';
        $fh = reader($source);
        my $line = <$fh>;
        is $class->new->add($line)->addfile($fh)->hexdigest, $want, 'goes on where a line has ended';
    }
};

# It reads and writes in C.
subtest 'Storable' => sub {
    my $data = { bytes => $content, list => [1 .. 1000] };
    written('store_fd', sub { Storable::store_fd($data, $_[0]) });
    my $fh = reader();
    is_deeply [map { sha($_->{bytes}), scalar @{ $_->{list} } } Storable::fd_retrieve($fh)], [sha($content), 1000], 'fd_retrieve';
    ok close $fh, 'close';
};

subtest 'IO::Compress, IO::Uncompress' => sub {
    written('gzip', sub { IO::Compress::Gzip::gzip($file => $_[0]) });
    read_by('gunzip', sub { my $got; IO::Uncompress::Gunzip::gunzip($_[0] => \$got) and $got });
    written('an object', sub {
        my $z = IO::Compress::Gzip->new($_[0]) or return;
        print {$z} $content or return;
        return $z->close;
    });
    read_by('an object', sub {
        my $z = IO::Uncompress::Gunzip->new($_[0]) or return;
        return join '', <$z>;
    });
};

subtest 'Archive::Tar' => sub {
    my $tar = Archive::Tar->new;
    $tar->add_data('a/b', $content);
    $tar->add_data('c', "text\n");
    for my $compress (undef, Archive::Tar::COMPRESS_GZIP()) {
        my $name = $compress ? 'compressed' : 'plain';
        written($name, sub { $tar->write($_[0], $compress // ()) });
        # A read that came back short would be the end of it.
        read_by($name, sub { my $in = Archive::Tar->new; $in->read($_[0]) and $in->get_content('a/b') }) if !$compress;
        my $next = Archive::Tar->iter(reader());
        my @names;
        while (my $entry = $next->()) { push @names, $entry->full_path }
        is "@names", 'a/b c', "$name: one entry after the other";
    }
};

subtest 'a decoder of images' => sub {
    my $test = connect_test();
    my $st = $test->new_stream;
    $test->get_domain_by_name('test')->screenshot($st, 0);
    my $png = do { local $/; my $fh = $st->handle; <$fh> };
    my ($width, $height) = unpack 'x16NN', $png;
    $test->get_domain_by_name('test')->screenshot($st, 0);
    # Those that read by themselves, and need no descriptor and no seek.
    my %decoder = (
        'Imager' => sub { my $image = Imager->new; $image->read(fh => $_[0]) or die $image->errstr; map { $image->$_ } qw(getwidth getheight) },
        'Image::ExifTool' => sub { @{ Image::ExifTool->new->ImageInfo($_[0]) }{qw(ImageWidth ImageHeight)} },
    );
    my ($name) = grep { eval "require $_; 1" } sort keys %decoder;
    plan skip_all => 'neither Imager nor Image::ExifTool is here' unless $name;
    my $fh = $st->handle;
    is_deeply [$decoder{$name}->($fh)], [$width, $height], $name;
    ok close $fh, 'close';
};

# A stream that fails is not taken for one that ends.
subtest 'a failure under a module' => sub {
    my %reads = (
        'Digest::MD5' => sub { Digest::MD5->new->addfile($_[0]) }, 'Digest::SHA' => sub { Digest::SHA->new->addfile($_[0]) },
        'File::Copy' => sub { local $SIG{__WARN__} = sub { }; File::Copy::copy($_[0], "$file.copy") or die "$!\n" },
    );
    for my $name (sort keys %reads) {
        my $st = $conn->new_stream;
        $source->download($st, 0, 0);
        my $fh = $st->handle;
        read $fh, my $data, 10;
        $st->abort;
        ok error_of(sub { $reads{$name}->($fh) }), "$name: fails";
        isa_ok $fh->stream_error, 'Sys::Virt::Error', '... as the stream has';
        ok $fh->error, '... the handle is in error';
        ok !close $fh, '... and does not close well';
    }
    my $fh = do { my $st = $conn->new_stream; $source->download($st, 0, 0); $st->abort; $st->handle };
    is error_of(sub { Digest::MD5->new->addfile($fh) })->message, $fh->stream_error->message, 'in C it is the exception';
};

done_testing;

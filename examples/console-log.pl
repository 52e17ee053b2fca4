#!/usr/bin/perl
# Logs what the guests that run now say on their consoles, to FOLDER/GUEST.CONSOLE.log, until all of them are off.
# One process and one event loop, IO::Async's, serve them all.
use strict;
use warnings;
use IO::Async::Loop;
use IO::Async::Stream;
use Sys::Virt;

die "usage: $0 URI FOLDER\n" if @ARGV != 2;
my ($uri, $folder) = @ARGV;

my $loop = IO::Async::Loop->new;
my $conn = Sys::Virt->new(uri => $uri);
my $open = 0;
for my $domain ($conn->list_all_domains(Sys::Virt::Domain::LIST_ACTIVE)) {
    my $name = $domain->get_name;
    for my $console ($domain->get_xml_description =~ m{<console .*?<alias name='([^']+)'}gs) {
        my $st = $conn->new_stream;
        # Somebody else may have it.
        eval { $domain->open_console($st, $console, 0); 1 } or warn("$name, $console: $@"), next;
        my $file = "$folder/$name.$console.log";
        open my $log, '>>:unix', $file or die "$file: $!\n";
        $open++;
        $loop->add(IO::Async::Stream->new(
            read_handle => $st->socket,
            on_read     => sub {
                my ($self, $buffer) = @_;
                print {$log} $$buffer or die "$file: $!\n";
                $$buffer = '';
                return 0;
            },
            # An end of file is no success: finish knows the stream's error.
            on_closed => sub {
                eval { $st->finish; 1 } or warn "$name, $console: $@";
                $loop->stop unless --$open;
            },
        ));
    }
}
$loop->run if $open;
